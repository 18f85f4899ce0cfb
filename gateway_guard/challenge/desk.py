"""The desk: states challenges, takes what meets them, gives passes, and reads passes.

Theory of operation. A challenge is a signed statement and no state: whom it is for, what it asks, until when. *Whom* is a keyed hash of account,
cluster, rung and the rung's own rule, the `holder`: it says nothing to who reads it, and fits nobody else. What the desk has to count when a
challenge is met (whose repeats) travels in it under a pad, since callers must not learn from it which accounts are taken for one.

A challenge that is met is spent in the store, as from a quota of one for its id: all or nothing, so once, however many workers are asked at the same
time. When the store is full, ids share one bucket and some proofs are refused that were good; never the other way round. The pass is the same
holder, signed with another key, and no state either.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from gateway_guard.challenge.effort import effort
from gateway_guard.challenge.seal import Seal, derived
from gateway_guard.challenge.stepup import StepUpKey
from gateway_guard.challenge.work import PARTS, Puzzle, part_holds, parts_of, taken_apart
from gateway_guard.decision import Decision
from gateway_guard.errors import ProofRefused
from gateway_guard.policy.model import ChallengeRule, Policy, Rung, StepUp, Work
from gateway_guard.ports import Grants, Store
from gateway_guard.quota import Bill, Lines, Part, Quota, lines_of

DAY = 86400.0
# Passes that were verified lately are remembered, as verifying one costs more than deciding.
REMEMBERED = 10_000
PURPOSE, PASS_PURPOSE = "gg-challenge", "gg-pass"
# One pass is forgiven each member a day.
_REPEATS = lines_of([Quota("challenges_met", 1.0 / DAY, 1e9, per="challenge")], [1.0])
_COUNTED = struct.Struct(">16sd")


class Offer(NamedTuple):
    """What a caller is asked: a `puzzle`, or to go to `url`; `token` is the signed statement of it, good until `expires`."""

    token: str
    expires: float
    puzzle: Puzzle | None = None
    url: str = ""


class Pass(NamedTuple):
    """`holder` has met a challenge, until `expires`; `token` says so."""

    token: str
    holder: str
    expires: float


class _Asked(NamedTuple):
    rung: Rung
    name: str
    rule: ChallengeRule
    rules: str
    spent: Lines


class Desk:
    """Of one policy. `operators` verify results, for each challenge that has a `step_up`."""

    def __init__(self, policy: Policy, secret: bytes, store: Store, grants: Grants, operators: Mapping[str, StepUpKey] | None = None) -> None:
        self.path = policy.passes.path
        self._store = store
        self._grants = grants
        self._operators = operators or {}
        self._challenges = Seal(secret, PURPOSE, policy.passes.keys)
        self._passes = Seal(secret, PASS_PURPOSE, policy.passes.keys)
        self._secret = derived(secret, "gg-challenge-pad", "")
        self._rungs = {rung.id: _asked(rung, policy.challenges[rung.challenge]) for rung in policy.ladder if rung.do == "challenge" and rung.challenge}
        self._named = {asked.name: asked for asked in self._rungs.values()}
        self._known: dict[str, Pass] = {}

    async def offer(self, decision: Decision, size: int, excess: float) -> Offer:
        """The challenge of a decision's rung. `size` of the caller's cluster, `excess` of the score over the rung's bound."""
        asked = self._rungs[decision.rung]
        group = self._group(decision.cluster or decision.account)
        until = decision.at + asked.rule.within
        claims: dict[str, Any] = {
            "jti": decision.id,
            "for": self.holder(decision.account, decision.cluster, decision.rung),
            "use": asked.name,
            "iat": decision.at,
            "exp": until,
            "lasts": asked.rule.lasts,
            "to": self._padded(decision.id, _COUNTED.pack(group, 1.0 / max(1, size))).hex(),
        }
        if asked.rule.step_up is not None:
            token = self._challenges.sign(claims)
            return Offer(token, until, url=_with(asked.rule.step_up, token))
        work = asked.rule.work or Work()
        [repeats] = await self._store.peek(_bill(group.hex(), _REPEATS, 0.0), decision.at)
        hashes = parts_of(effort(work, excess=excess, size=size, repeats=repeats), work.algorithm)
        token = self._challenges.sign({**claims, "alg": work.algorithm, "work": hashes})
        return Offer(token, until, Puzzle(token, work.algorithm, hashes))

    async def redeem(self, proof: str, at: float) -> Pass:
        """The pass for a proof of work, or for an operator's signed result. ProofRefused says why there is none."""
        if (found := taken_apart(proof)) is not None:
            claims = await self._worked(*found, at)
        else:
            claims = await self._stepped_up(proof, at)
        holder, until = claims["for"], at + claims["lasts"]
        group, share = _COUNTED.unpack(self._padded(claims["jti"], bytes.fromhex(claims["to"])))
        await self._store.adjust(_bill(group.hex(), _REPEATS, share), at)
        if "work" not in claims:
            await self._grants.grant(holder, until, at)
        return Pass(self._passes.sign({"for": holder, "iat": at, "exp": until}), holder, until)

    async def met(self, account: str, cluster: str, token: str, at: float) -> tuple[str, ...]:
        """Ids of the rungs whose challenge is met: by a pass for this account in this cluster, or with the operator."""
        shown = self._shown(token, at) if token else ""
        if not shown and not self._operators:
            return ()
        return tuple([ident for ident, asked in self._rungs.items() if await self._is_met(self.holder(account, cluster, ident), asked, shown, at)])

    def holder(self, account: str, cluster: str, rung: str) -> str:
        """Whom a challenge and its pass are for. With the rung's rule in it, a changed rule asks again."""
        asked = self._rungs[rung]
        named = "\0".join((account, cluster, rung, asked.name, asked.rules))
        return blake2b(named.encode(), key=self._secret, person=b"holder", digest_size=16).hexdigest()

    async def _is_met(self, holder: str, asked: _Asked, shown: str, at: float) -> bool:
        if shown == holder:
            return True
        return asked.rule.step_up is not None and await self._grants.granted(holder, at)

    def _shown(self, token: str, at: float) -> str:
        """The holder of a pass, empty when it is none."""
        known = self._known.get(token)
        if known is None:
            claims = self._passes.read(token, at)
            if claims is None:
                return ""
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[token] = Pass(token, claims["for"], claims["exp"])
        return known.holder if at < known.expires else ""

    async def _worked(self, token: str, nonces: tuple[int, ...], at: float) -> dict[str, Any]:
        claims = self._stated(token, at)
        if "work" not in claims:
            raise ProofRefused("This challenge is not met by work.")
        puzzle = Puzzle(token, claims["alg"], claims["work"])
        if puzzle.algorithm == "sha256" and not all(part_holds(puzzle, part, nonce) for part, nonce in enumerate(nonces)):
            raise ProofRefused("The proof is wrong.")
        await self._spend(claims, at)
        if puzzle.algorithm == "scrypt":
            part = blake2b(repr((token, nonces)).encode(), key=self._secret, person=b"part").digest()[0] % PARTS
            if not await asyncio.to_thread(part_holds, puzzle, part, nonces[part]):
                raise ProofRefused("The proof is wrong.")
        return claims

    async def _stepped_up(self, result: str, at: float) -> dict[str, Any]:
        claims = self._stated(StepUpKey.challenge_in(result), at)
        operator = self._operators.get(claims["use"])
        if operator is None or "work" in claims or not operator.confirms(result, at):
            raise ProofRefused("The result is not one that the operator has signed for this challenge.")
        await self._spend(claims, at)
        return claims

    def _stated(self, token: str, at: float) -> dict[str, Any]:
        claims = self._challenges.read(token, at)
        asked = self._named.get(claims["use"]) if claims is not None else None
        # One from before a change that shortened the time could outlive its own use.
        if claims is None or asked is None or claims["exp"] - claims["iat"] > asked.rule.within + 1.0:
            raise ProofRefused("The challenge is not one of this guard's, or its time is over. Send the request again for a new one.")
        return claims

    async def _spend(self, claims: Mapping[str, Any], at: float) -> None:
        """Use a challenge up."""
        spend = await self._store.spend(_bill(claims["jti"], self._named[claims["use"]].spent, 1.0), at)
        if not spend.ok:
            raise ProofRefused("The challenge was met before. Use the pass that was given for it, or send the request again for a new challenge.")

    def _group(self, name: str) -> bytes:
        return blake2b(name.encode(), key=self._secret, person=b"group", digest_size=16).digest()

    def _padded(self, ident: str, data: bytes) -> bytes:
        """Hides `data`, and gives it back. The pad of an id is used for one challenge only."""
        pad = blake2b(ident.encode(), key=self._secret, person=b"pad", digest_size=len(data)).digest()
        return bytes(one ^ other for one, other in zip(data, pad, strict=True))


def _asked(rung: Rung, rule: ChallengeRule) -> _Asked:
    # Full until after the last moment at which the challenge could be shown again.
    once = Quota(f"proof_{rung.challenge}", 1.0 / (rule.within + 2.0), 1.0, per="challenge")
    return _Asked(rung, rung.challenge or "", rule, rule.model_dump_json(), lines_of([once], [1.0]))


def _bill(subject: str, lines: Lines, cost: float) -> Bill:
    return Bill((Part(subject, lines, lines.figures, [cost], [0.0]),))


def _with(rule: StepUp, token: str) -> str:
    return f"{rule.url}{'&' if '?' in rule.url else '?'}challenge={token}"
