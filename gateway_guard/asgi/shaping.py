"""What a decision makes of one exchange: the request that the model server gets instead, and how its answer is rewritten."""

from __future__ import annotations

from typing import NamedTuple

import orjson
from starlette.types import Scope

from gateway_guard.decision import Decision
from gateway_guard.dialects.body import parse
from gateway_guard.facts import Asks, RequestFacts
from gateway_guard.policy.profile import Profile
from gateway_guard.provenance.marker import Marks
from gateway_guard.rewrite.decoy import DECOYS
from gateway_guard.rewrite.loss import NONE, loss_of, told
from gateway_guard.rewrite.marks import marked
from gateway_guard.rewrite.request import degrade
from gateway_guard.rewrite.returned import restored
from gateway_guard.rewrite.seal import Sealer
from gateway_guard.rewrite.shape import Step
from gateway_guard.rewrite.steps import steps

STREAM = int(Asks.STREAM)
RawHeaders = list[tuple[bytes, bytes]]
# Ways of answering that would go past what looks at the answer.
PAST = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


class Shaped(NamedTuple):
    """`body` to send instead, None for the one that came · `headers` to set on it · `steps` for its answer · `notice` for the client."""

    body: bytes | None
    headers: RawHeaders
    steps: list[Step]
    notice: bytes


def shape(  # noqa: PLR0917 - one call, on the request's way
    decision: Decision, profile: Profile | None, raw: bytes, facts: RequestFacts, sealer: Sealer, marks: Marks | None, *, sealed: bool
) -> Shaped:
    """`marks` of the caller's cluster, if it is to be marked. `sealed`: the request bears state that the guard has sealed.

    What has to be changed and cannot be read raises UnreadableBody.
    """
    changes: list[str] = []
    body = None
    if sealed or profile is not None:
        parsed = before = parse(raw, duplicates="rewrite").body
        if sealed:
            parsed = restored(facts.dialect, parsed, sealer.seals)
        if profile is not None:
            parsed, found = degrade(facts.dialect, parsed, profile)
            changes += found
            if marks is not None:
                parsed, done = marked(facts.dialect, parsed, marks, profile.marks, facts.asks)
                changes += done
        body = orjson.dumps(parsed) if sealed or parsed != before else None
    found_steps = steps(facts.dialect, loss_of(profile, facts.asks) if profile is not None else NONE, sealer)
    if profile is not None and found_steps:
        changes += told(loss_of(profile, facts.asks), facts.asks)
    if marks is not None and "provenance=tools" in changes:
        found_steps = [DECOYS[facts.dialect](marks.tool), *found_steps]
    headers: RawHeaders = []
    if profile is not None and profile.hint is not None:
        headers.append((profile.hint.header.encode(), profile.hint.value.encode()))
        changes.append("hint")
    if decision.pace and facts.asks & STREAM:
        changes.append(f"pace={decision.pace:g}/s")
    if found_steps:
        headers.append((b"accept-encoding", b"identity"))
    return Shaped(body, headers, found_steps, b"" if decision.silent else ", ".join(dict.fromkeys(changes)).encode())


def with_headers(scope: Scope, headers: RawHeaders) -> Scope:
    """`scope` with these headers in place of the caller's own, and without ways to answer past the guard."""
    names = {name for name, _ in headers}
    kept = [(name, value) for name, value in scope["headers"] if name not in names]
    extensions = {name: value for name, value in (scope.get("extensions") or {}).items() if name not in PAST}
    return {**scope, "headers": [*kept, *headers], "extensions": extensions}
