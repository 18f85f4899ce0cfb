"""The signals that a policy may weigh, by name. Each is pure, bounded, and silent (None) when it has nothing to say.

Coordination (are these one actor?) and harvest (does the traffic look like building a data set?) are two columns and stay so.
Origin, language and the size of a group are not evidence and have no signal. What a single prompt asks for, or how one client's headers look, is told
to the analyst, who pools it over a group: of one request it proves nothing, and taking a fingerprint is no work for the request's way.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway_guard.evidence import Evidence
from gateway_guard.facts import RequestFacts
from gateway_guard.ports import Signal
from gateway_guard.view import Standing, View

DAY = 86400.0
YOUNG_DAYS = 3.0


def coordination(facts: RequestFacts, standing: Standing | None, view: View) -> Evidence | None:
    """The account belongs to a cluster that acts as one."""
    if standing is None or standing.coordination <= 0.0 or not standing.families:
        return None
    cluster = view.clusters.get(standing.cluster)
    size = f"{cluster.size} accounts" if cluster else "a cluster"
    says = f"Acts as one with {size} ({standing.cluster}); evidence: {', '.join(standing.families)}."
    return Evidence(standing.families[0], "coordination", standing.coordination, says)


def harvest(facts: RequestFacts, standing: Standing | None, view: View) -> Evidence | None:
    """The traffic of the account's cluster, or its own, looks like building a data set."""
    if standing is None or standing.harvest <= 0.0:
        return None
    return Evidence("content", "harvest", standing.harvest, "The pooled traffic looks like building a data set.")


def young_account(facts: RequestFacts, standing: Standing | None, view: View) -> Evidence | None:
    """The account is a few days old. Every honest account once was: its ceiling must stay low."""
    created = facts.identity.created_at
    if not created or facts.at - created >= YOUNG_DAYS * DAY:
        return None
    return Evidence("identity", "young_account", 1.0, f"The account is {max(0.0, facts.at - created) / DAY:.1f} days old.")


def foreign_state(facts: RequestFacts, standing: Standing | None, view: View) -> Evidence | None:
    """Reasoning state came back that belongs to another account or conversation, or that is not whole. Keys change hands within a firm: its ceiling is low."""
    if not facts.state:
        return None
    return Evidence("conversation", "foreign_state", *STATE_SAYS[facts.state])


# What each of `facts.STATES` is worth. State from before binding began proves hardly anything.
STATE_SAYS = (
    (0.0, ""),
    (0.25, "Reasoning state came back without a binding."),
    (2.0, "Reasoning state came back that was issued to another account or conversation."),
    (2.0, "Reasoning state came back altered."),
)
SIGNALS: Mapping[str, Signal] = MappingProxyType(
    {
        "coordination": coordination,
        "harvest": harvest,
        "young_account": young_account,
        "foreign_state": foreign_state,
    }
)
NAMES = frozenset(SIGNALS)
