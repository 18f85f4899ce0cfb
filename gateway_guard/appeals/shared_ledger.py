"""Appeals, acknowledgements and the decisions that may be appealed against, on the Redis or Valkey server that hosts share.

Theory of operation. All keys have one hash tag and so lie in one slot of a cluster. Whatever must happen together is one script: a `Change`, which
does nothing unless what it rests on is still as it was read, so of two who answer the same appeal one wins. What operators say is counted in `changes`;
each process reads it again when that number is another one. Nothing is sent twice by itself: of what nobody knows whether it was done, the caller is told
that it failed.

A decision's place is `account NUL time NUL id`: sorted by name in `accounts` (an account's own lie together, the latest last), and by time in `ages`.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import msgspec
import zstandard
from msgspec import structs
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as Late

from gateway_guard.appeals.change import ABOUT, ACTS, COMMIT, VERSION, Change
from gateway_guard.appeals.state import EACH, KEEP, LEAD, MOST
from gateway_guard.appeals.values import Act, Appeal, Status, Touched
from gateway_guard.errors import StoreError, UsageError
from gateway_guard.policy.acknowledged import Acknowledgement, Suspension
from gateway_guard.view import EMPTY, View

if TYPE_CHECKING:
    from redis import Redis, RedisCluster

P = ParamSpec("P")
T = TypeVar("T")
Client = Callable[[], "Redis | RedisCluster"]

# Decisions written in one script: requests wait for the server meanwhile, some 30 microseconds for each.
CHUNK = 50
# Acts handed over at a time, and seconds after which whoever took them is believed to be gone.
HANDED, HOLD = 1000, 10.0
# A view may not cost more memory than this, whatever somebody has written there.
PLAIN_CAP = 512 * 2**20
PLACES = ("decisions", "accounts.0", "accounts.1", "ages.0", "ages.1")
# KEYS: the counters, and `PLACES`. ARGV: our version, decisions of each account and kind, of all, the oldest time; then grave, account, time, id and body each.
REMEMBER = """
local ours, each, most, oldest = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local found = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if found > ours then return -found end
redis.call('HSET', KEYS[1], 'version', ours)
local function forget(places, grave)
  for _, place in ipairs(places) do
    redis.call('ZREM', KEYS[3 + grave], place)
    redis.call('ZREM', KEYS[5 + grave], place)
    redis.call('HDEL', KEYS[2], string.match(place, '[^%z]*$'))
  end
end
local felt = {}
for index = 5, #ARGV, 5 do
  local grave, account, at, id = tonumber(ARGV[index]), ARGV[index + 1], ARGV[index + 2], ARGV[index + 3]
  if redis.call('HSETNX', KEYS[2], id, ARGV[index + 4]) == 1 then
    local place = account .. '\\0' .. at .. '\\0' .. id
    redis.call('ZADD', KEYS[3 + grave], 0, place)
    redis.call('ZADD', KEYS[5 + grave], at, place)
    felt[grave .. account] = {grave, account}
  end
end
for _, one in pairs(felt) do
  forget(redis.call('ZREVRANGEBYLEX', KEYS[3 + one[1]], '(' .. one[2] .. '\\1', '[' .. one[2] .. '\\0', 'LIMIT', each, -1), one[1])
end
for grave = 0, 1 do
  forget(redis.call('ZRANGEBYSCORE', KEYS[5 + grave], '-inf', '(' .. oldest, 'LIMIT', 0, 1000), grave)
end
-- A flood of new keys that run into quotas must not push out the decisions that weigh more.
for grave = 0, 1 do
  local over = redis.call('HLEN', KEYS[2]) - most
  if over > 0 then forget(redis.call('ZRANGE', KEYS[5 + grave], 0, over - 1), grave) end
end
return 1
"""
# KEYS: who is taking acts. ARGV: we. Another one may have begun, if we took too long.
LET_GO = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"
_TOUCHED = msgspec.json.Decoder(Touched)
_APPEAL = msgspec.json.Decoder(Appeal)
_ACKNOWLEDGEMENT = msgspec.json.Decoder(Acknowledgement)
_SUSPENSION = msgspec.json.Decoder(Suspension)
_VIEW = msgspec.msgpack.Decoder(View)
_HEAD = msgspec.json.Decoder(tuple[int, str])
_ACT = msgspec.json.Decoder(tuple[float, str, str])
_text = msgspec.json.Encoder().encode


def _safe(method: Callable[Concatenate[SharedLedger, P], T]) -> Callable[Concatenate[SharedLedger, P], T]:
    """StoreError for what the server refuses, when it does not answer, and for what nobody can read."""

    @wraps(method)
    def told(self: SharedLedger, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except (RedisError, RedisClusterException, msgspec.DecodeError) as error:
            raise _failed(self.name, error) from error

    return told


class SharedLedger:
    """The state on a server called `name`. `client` connects to it when it is first needed · `prefix` of every key · `home` names this host's audit log."""

    def __init__(self, client: Client, name: str, prefix: str, home: str) -> None:
        self.name = name
        self._make = client
        self._client: Redis | RedisCluster | None = None
        self._prefix = f"{prefix}:{{gg:state}}:"
        self._home = f"{home}\0".encode()
        self._seen = b"?"
        try:
            self._look()
        except StoreError as error:
            if not error.retryable:
                raise UsageError(str(error)) from None

    @_safe
    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            self._client.close()

    @_safe
    def changed(self) -> bool:
        """Whether what operators say has changed since this was asked last; true the first time."""
        before, self._seen = self._seen, self._look()
        return self._seen != before

    @_safe
    def remember(self, decisions: Sequence[Touched], at: float) -> None:
        """Keep decisions for appeals, within the bounds."""
        for start in range(0, len(decisions), CHUNK):
            words: list[Any] = [VERSION, EACH, MOST, at - KEEP]
            for one in decisions[start : start + CHUNK]:
                words += [int(one.grave), one.account, f"{one.at:020.6f}", one.id, _text(one)]
            self._run(REMEMBER, [ABOUT, *PLACES], words)

    @_safe
    def decision(self, ident: str) -> Touched | None:
        """A decision that was kept."""
        body = self._get("decisions", ident)
        return None if body is None else _TOUCHED.decode(body)

    @_safe
    def file(self, appeal: Appeal) -> tuple[Appeal, bool]:
        """Take an appeal; the one that there is, and false, when its decision has been appealed against before."""
        decision = appeal.decision
        change = Change().expect("filed", decision.id, "").do("HSET", "filed", decision.id, appeal.id).do("HSET", "appeals", appeal.id, _text(appeal))
        change.do("ZADD", "appeals.all", appeal.at, appeal.id).do("ZADD", "appeals.open", appeal.at, appeal.id)
        if self._commit(change.act(appeal.at, "appeal.filed", appeal=appeal.id, decision=decision.id, account=decision.account)):
            return appeal, True
        return _APPEAL.decode(self._appeal(decision.id) or b""), False

    @_safe
    def appeal(self, ident: str) -> Appeal | None:
        """One appeal, by its id or its decision's."""
        body = self._appeal(ident)
        return None if body is None else _APPEAL.decode(body)

    @_safe
    def appeals(self, status: Status | None = None, limit: int = 1000) -> list[Appeal]:
        """Appeals, the oldest first."""
        found = self._call("ZRANGE", self._key(f"appeals.{status or 'all'}"), 0, limit - 1)
        bodies = self._call("HMGET", self._key("appeals"), *found) if found else []
        return [_APPEAL.decode(body) for body in bodies if body is not None]

    @_safe
    def answer(self, ident: str, status: Status, at: float, *, by: str, answer: str, relief: Acknowledgement | None = None) -> Appeal:
        """Decide an appeal, and with `relief` acknowledge what it was about, in one step. UsageError when it is not there or is decided."""
        body, before = self._open(ident)
        after = structs.replace(before, status=status, answered=at, answer=answer, by=by)
        change = Change().expect("appeals", after.id, body).do("HSET", "appeals", after.id, _text(after))
        change.do("ZREM", "appeals.open", after.id).do("ZADD", f"appeals.{status}", after.at, after.id)
        change.act(at, f"appeal.{status}", appeal=after.id, decision=after.decision.id, account=after.decision.account, by=by, reason=answer)
        if relief is not None:
            self._give(change, relief, at, by)
        if not self._commit(change):
            # Somebody was faster, and is named.
            self._open(ident)
            raise StoreError(f"{self.name}: appeal {ident} was written by another hand meanwhile", retryable=True)
        return after

    @_safe
    def acknowledge(self, given: Acknowledgement, at: float, by: str) -> Acknowledgement:
        """Keep an acknowledgement; it gets its number."""
        change = Change()
        kept = self._give(change, given, at, by)
        self._commit(change)
        return kept

    @_safe
    def acknowledgements(self) -> list[Acknowledgement]:
        """All that were ever given, in order."""
        return [structs.replace(_ACKNOWLEDGEMENT.decode(body), number=number, withdrawn=end) for number, body, end in self._all("acknowledgements")]

    @_safe
    def withdraw(self, number: int, at: float, *, by: str, reason: str) -> Acknowledgement:
        """Take an acknowledgement back. UsageError when there is none in force."""
        change = Change().act(at, "acknowledgement.withdrawn", acknowledgement=number, by=by, reason=reason)
        body = self._end("acknowledgements", number, at, change)
        if body is None:
            raise UsageError(f"there is no acknowledgement {number} in force: `gateway-guard acknowledgements` shows them")
        return structs.replace(_ACKNOWLEDGEMENT.decode(body), number=number, withdrawn=at + LEAD)

    @_safe
    def suspend(self, order: Suspension, at: float, by: str) -> Suspension:
        """Keep a suspension; it gets its number."""
        number = self._number("suspensions")
        change = Change().do("HSET", "suspensions", number, _text(structs.replace(order, withdrawn=0.0))).do("HINCRBY", ABOUT, "changes", 1)
        body = {"suspension": number, order.kind: order.name, "subjects": order.subjects, "until": order.until}
        self._commit(change.act(at, "suspended", **body, by=by, reason=order.reason))
        return structs.replace(order, number=number)

    @_safe
    def suspensions(self) -> list[Suspension]:
        """All that were ever ordered, in order."""
        return [structs.replace(_SUSPENSION.decode(body), number=number, withdrawn=end) for number, body, end in self._all("suspensions")]

    @_safe
    def lift(self, number: int, at: float, *, by: str, reason: str) -> Suspension:
        """End a suspension. UsageError when there is none in force."""
        change = Change().act(at, "suspension.lifted", suspension=number, by=by, reason=reason)
        body = self._end("suspensions", number, at, change)
        if body is None:
            raise UsageError(f"there is no suspension {number} in force: `gateway-guard suspensions` shows them")
        return structs.replace(_SUSPENSION.decode(body), number=number, withdrawn=at + LEAD)

    @_safe
    def hand_over(self, take: Callable[[Sequence[Act]], None]) -> int:
        """Give `take` the acts that no process has taken yet; how many. When it raises, they are given again: at least once, in order."""
        taking, us = self._key("taking"), secrets.token_hex(8)
        if not self._call("ZCARD", self._key(ACTS)) or not self._call("SET", taking, us, "NX", "PX", int(HOLD * 1000)):
            return 0
        try:
            acts = [_act(found) for found in self._call("ZRANGE", self._key(ACTS), 0, HANDED - 1)]
            if acts:
                take(acts)
                self._call("ZREMRANGEBYSCORE", self._key(ACTS), "-inf", acts[-1].number)
        finally:
            # A server that is gone keeps nobody waiting: what is held ends by itself.
            with suppress(RedisError, RedisClusterException):
                self._call("EVAL", LET_GO, 1, taking, us)
        return len(acts)

    @_safe
    def keep_view(self, view: View) -> None:
        """Keep the view in place of the one before. All hosts have the same one: it is sent once."""
        if self._get("view", "id") != b"%d" % view.id:
            packed = zstandard.ZstdCompressor(3).compress(msgspec.msgpack.encode(view))
            self._commit(Change().do("HSET", "view", "id", view.id, "body", packed))

    @_safe
    def view(self) -> View:
        """The view that was kept last; an empty one when there is none, or when another version of the guard wrote it and it cannot be read."""
        body = self._get("view", "body")
        try:
            return EMPTY if body is None else _VIEW.decode(zstandard.ZstdDecompressor().decompress(body, max_output_size=PLAIN_CAP))
        except (zstandard.ZstdError, msgspec.DecodeError):
            return EMPTY

    @_safe
    def reached(self, file: str, entry: int, seal: str) -> None:
        """This host's audit log goes as far as this in `file`: others may have files of the same name."""
        self._commit(Change().do("HSET", "heads", self._home + file.encode(), _text((entry, seal))))

    @_safe
    def heads(self) -> list[tuple[str, int, str]]:
        """(file, entry, seal) of each of the files of this host's audit log."""
        found = self._call("HGETALL", self._key("heads"))
        return sorted((file.removeprefix(self._home).decode(), *_HEAD.decode(head)) for file, head in found.items() if file.startswith(self._home))

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _call(self, *command: Any) -> Any:
        if self._client is None:
            self._client = self._make()
        return self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    def _get(self, key: str, field: str | int) -> bytes | None:
        body: bytes | None = self._call("HGET", self._key(key), field)
        return body

    @_safe
    def _look(self) -> bytes:
        """How often operators' words have changed. StoreError also when a newer guard keeps its state here."""
        version, changes = self._call("HMGET", self._key(ABOUT), "version", "changes")
        self._understand(-int(version or 0) if int(version or 0) > VERSION else 1)
        return changes or b""

    def _run(self, script: str, keys: Sequence[str], words: Sequence[Any]) -> bool:
        found: int = self._call("EVAL", script, len(keys), *map(self._key, keys), *words)
        self._understand(found)
        return found == 1

    def _understand(self, found: int) -> None:
        if found < 0:
            raise StoreError(f"{self.name}: the state there is a newer gateway-guard's (version {-found}, this one knows {VERSION}): upgrade", retryable=False)

    def _commit(self, change: Change) -> bool:
        return self._run(COMMIT, change.keys, change.words())

    def _number(self, of: str) -> int:
        """The next number. One whose change fails is given to nobody."""
        number: int = self._call("HINCRBY", self._key(ABOUT), of, 1)
        return number

    def _appeal(self, ident: str) -> bytes | None:
        found = self._get("appeals", ident)
        if found is None and (filed := self._get("filed", ident)) is not None:
            found = self._get("appeals", filed.decode())
        return found

    def _open(self, ident: str) -> tuple[bytes, Appeal]:
        """An appeal that is not answered yet, as it is kept. UsageError when there is none."""
        body = self._appeal(ident)
        if body is None:
            raise UsageError(f"there is no appeal {ident}: `gateway-guard appeals list` shows them")
        found = _APPEAL.decode(body)
        if found.status != "open":
            raise UsageError(f"appeal {found.id} was {found.status} by {found.by} before; `gateway-guard acknowledge` does more for its account")
        return body, found

    def _give(self, change: Change, given: Acknowledgement, at: float, by: str) -> Acknowledgement:
        number = self._number("acknowledgements")
        change.do("HSET", "acknowledgements", number, _text(structs.replace(given, withdrawn=0.0))).do("HINCRBY", ABOUT, "changes", 1)
        body = {"acknowledgement": number, given.kind: given.name, "subjects": given.subjects, "families": given.families, "until": given.until}
        change.act(at, "acknowledged", **body, appeal=given.appeal, by=by, reason=given.reason)
        return structs.replace(given, number=number)

    def _all(self, what: str) -> list[tuple[int, bytes, float]]:
        """(number, body, when it was ended) of each, in order."""
        bodies, ends = self._call("HGETALL", self._key(what)), self._call("HGETALL", self._key(f"{what}.ended"))
        return sorted((int(number), body, float(ends.get(number, math.inf))) for number, body in bodies.items())

    def _end(self, what: str, number: int, at: float, change: Change) -> bytes | None:
        """End what is in force; None when it is not."""
        body = self._get(what, number)
        change.expect(f"{what}.ended", number, "").do("HSET", f"{what}.ended", number, at + LEAD).do("HINCRBY", ABOUT, "changes", 1)
        return body if body is not None and self._commit(change) else None


def _act(found: bytes) -> Act:
    number, _, text = found.partition(b"\n")
    return Act(int(number), *_ACT.decode(text))


def _failed(name: str, error: Exception) -> StoreError:
    """What a failing server means for its caller, in one line."""
    says = (str(error).splitlines() or ["no answer in time"])[0][:200]
    return StoreError(f"{name}: {says}", retryable=isinstance(error, Unreachable | Late | RedisClusterException))
