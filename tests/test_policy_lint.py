"""Policies that are well typed and yet odd: warned of, not refused. (What is refused is in policies/bad.)"""

from __future__ import annotations

import datetime

import pytest

from gateway_guard.policy.lint import lint
from gateway_guard.policy.load import loads
from gateway_guard.policy.model import Policy
from gateway_guard.signals.catalogue import NAMES

HEAD = "version: 1\nname: test\n"
TODAY = datetime.date(2026, 11, 25)

ODD = {
    "signals: {young_account: {weight: 0}}": "signal `young_account` weighs nothing; say `mode: off`",
    "signals: {coordination: {}}": "coordinated accounts keep their whole quotas each: `clusters.share` lists none",
    "signals: {harvest: {mode: shadow}}\nladder: [{id: a, at: 2, do: throttle, scale: 0.5}]": "signals outside shadow add up to 0",
    "quotas: {day: {limit: 9/day}}\nclusters: {share: [day], minimum: 60%}": "with a minimum of 60% sharing hardly bites",
    "signals: {coordination: {mode: off}, harvest: {}}\nmode: enforce": "enforces nothing",
    "quotas: {a: {limit: 600/min, burst: 9}, b: {limit: 60/min, burst: 9}}": "quota `a` decides nothing: `b` is tighter in rate and burst",
    "quotas: {t: {limit: 10k tokens/min}}": "quota `t`: a prompt of more than 10,000 tokens can never fit with plan default",
    "quotas: {t: {limit: 100k tokens/min}}\nplans: {default: {}, free: {trust: {start: 5%, over: 1d}}}": "with plan free, new accounts",
    "analysis: {enabled: false}\nsignals: {harvest: {}}": "without the analyst no account is ever found to act as one",
    "analysis: {enabled: false}\nquotas: {a: {limit: 60/min}}\nclusters: {share: [a]}": "without the analyst no account is ever found to act as one",
    "analysis: {half_life: 30d}": "long before it counts half",
    "profiles: {plain: {max_tokens: 5}}": "no rung uses profile `plain`",
    "challenges: {work: {work: {}}}": "no rung uses challenge `work`",
    "challenges: {work: {work: {}, lasts: 1m}}": "callers are challenged anew every 60 s",
    "challenges: {work: {work: {most: 10m}}}": "a caller may have to compute 600 s for one request",
    "challenges: {work: {work: {}, within: 1m}}": "60 s is short for 30 s of work: slow devices take 10 times as long; give `within: 300s`",
    "signals: {coordination: {}, harvest: {}}\nprofiles: {p: {max_tokens: 5}}\nchallenges: {w: {work: {}}}\n"
    "ladder: [{id: a, at: 1, do: degrade, profile: p}, {id: b, at: 2, do: challenge, challenge: w}]": "gets whole answers again, which `a` below it degrades",
    "profiles: {plain: {max_tokens: 5, strip: [usage]}}": "5 tokens hold no sentence",
    "signals: {foreign_state: {}}": "`foreign_state` never speaks: `binding` binds nothing",
    "binding: {conversation: true}": "`binding` binds nothing, so the rest of it has no effect",
    "signals: {harvest: {}}\nladder: [{id: a, at: 2, do: throttle, pace: 5/min}]": "a client gives a stream up before its first sentence",
    "provenance: {confidence: 99%}": "no profile has `marks`, so `provenance` has no effect",
    "profiles: {p: {marks: [habits]}}\nprovenance: {confidence: 50%}": "a finding would be about nobody",
    "throttle: {wait: 5m}": "callers are held up to 300 s before anything is sent",
    "reservation: {expires: 1m}": "reservations expire after 60 s while an answer may be silent for 600 s",
    "identity: {trusted_proxies: [10.0.0.0/7]}": "`10.0.0.0/7` trusts a large part of the Internet",
    "identity: {unknown_keys: refuse}": "every key is unknown to a guard without a `directory`",
    "identity: {jwt: {issuer: i, audience: a, algorithms: [RS256], key_file: k, leeway: 10m}}": "tokens stay good 600 s past their end",
    "exemptions: [{id: a, orgs: [x], until: 2099-01-01, reason: test}]": "runs until 2099-01-01; look at it again within a year",
    "record: {sample: 10%}": "`sample` thins out `exchanges`, which are not recorded",
    "analysis: {refresh: 2h}\nsignals: {coordination: {}, harvest: {}}\nladder: [{id: a, at: 2, do: deny, expires: 1h}]": "it would come and go",
    "signals: {coordination: {}, harvest: {}}\nladder: [{id: a, at: 2, do: deny, expires: 30h, apply: daily}]": "may expire (108000 s) before it is",
    "signals: {harvest: {}}\nladder: [{id: a, at: 1, do: allow, expires: 1h}]": "rung `a` allows, so its `expires` has no effect",
    "mode: enforce\nsignals: {coordination: {}, harvest: {}}\nladder: [{id: a, at: 2, do: deny}]": "nobody can appeal: give the policy a `state` file",
    "guard: {body_limit: 1 GiB}": "each request's body is held in memory",
}


@pytest.mark.parametrize(("content", "says"), ODD.items())
def test_what_is_odd_is_warned_of(content: str, says: str) -> None:
    warnings = loads(HEAD + content, "p.yaml", today=TODAY).warnings
    assert any(says in warning for warning in warnings), warnings
    assert all(warning.startswith("p.yaml:") and ": warning: " in warning for warning in warnings)


def test_a_rung_is_weighed_by_what_signals_may_say() -> None:
    """Just at the sum of the ceilings is in reach, a hair above is not."""
    base = HEAD + "signals: {harvest: {ceiling: 2}, young_account: {ceiling: 1}}\nladder: [{id: a, at: %s, do: throttle, scale: 0.5}]\n"
    assert loads(base % "3").warnings == ()
    policy = loads(base % "3").policy
    higher = policy.model_copy(update={"ladder": [policy.ladder[0].model_copy(update={"at": 3.001})]})
    assert [finding.steps for finding in lint(higher)] == [("ladder", 0, "at")]


def test_every_signal_there_is_may_be_weighed() -> None:
    loads(HEAD + "signals: {" + ", ".join(f"{name}: {{mode: off}}" for name in NAMES) + "}\n")


def test_the_least_policy_has_nothing_to_find() -> None:
    assert list(lint(Policy(version=1, name="least"), at=TODAY)) == []


def test_a_shared_quota_and_a_price_for_all_models_satisfy() -> None:
    content = (
        'quotas: {day: {limit: 9/day}, month: {limit: $5/month}}\nclusters: {share: [day]}\nsignals: {coordination: {}}\nprices: {"*": {input: 1, output: 1}}\n'
    )
    assert loads(HEAD + content, today=TODAY).warnings == ()


def test_a_burst_may_be_just_what_one_answer_is_expected_to_use() -> None:
    assert loads(HEAD + "quotas: {a: {limit: 1M output tokens/day, burst: 500}}\n").warnings == ()


def test_a_shared_secret_is_fine_alone() -> None:
    assert loads(HEAD + "identity: {jwt: {issuer: i, audience: a, algorithms: [HS256, HS512], key_file: k}}\n").warnings == ()


def test_equal_quotas_of_different_kind_do_not_hide_each_other() -> None:
    content = "quotas: {a: {limit: 60/min}, b: {limit: 600/min, per: org}, c: {limit: 6000/min, models: [x]}, d: {limit: 100/day, burst: 200}}\n"
    assert loads(HEAD + content, today=TODAY).warnings == ()
