"""What the workers of one service have in common beside debts: who is there, who leads, what happened, and what was concluded.

Theory of operation. Each worker shows itself once a beat, and is told how many there are. One of them leads: it holds a lease with a *fencing token*, a
number that grows with each new leader. A view is published under that token and is refused when another one leads by now, so that a leader that
was asleep and does not know that its time is over changes nothing.

Events go into a stream, many to an entry, and entries older than the history are trimmed. Whoever leads reads the whole stream from its beginning with a
cursor of its own and so knows what its predecessor knew. (A consumer group would hand each entry to one reader only: after a takeover the new
leader would lack what the old one had taken, and an old one that lives on would take entries away from the new one.) An entry that was
written twice, because its acknowledgement was lost, carries the same number of its sender and is read once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import zstandard
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from gateway_guard.errors import StoreError
from gateway_guard.facts import Event
from gateway_guard.stores.redis.ledger import Naming
from gateway_guard.view import View

# A view may not cost more memory than this, whatever somebody has written there.
PLAIN_CAP = 512 * 2**20
# The first byte of what is published: the form that it has.
FORM = b"1"
# Entries that the stream may have at most, however busy the service is.
MOST = 50_000
AT_ONCE = 200

BEAT = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] * 2000))
local token = 0
if ARGV[3] == '1' then
  local holder = redis.call('HMGET', KEYS[2], 'who', 'token')
  if not holder[1] then
    token = redis.call('INCR', KEYS[3])
    redis.call('HSET', KEYS[2], 'who', ARGV[1], 'token', token)
  elseif holder[1] == ARGV[1] then
    token = tonumber(holder[2])
  end
  if token > 0 then redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
end
return {redis.call('ZCARD', KEYS[1]), token, tonumber(redis.call('HGET', KEYS[4], 'id') or '0')}
"""
PUBLISH = """
local holder = redis.call('HMGET', KEYS[1], 'who', 'token')
if holder[1] ~= ARGV[1] or holder[2] ~= ARGV[2] then return 0 end
if tonumber(redis.call('HGET', KEYS[2], 'id') or '0') >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[2], 'id', ARGV[3], 'view', ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[3])
return 1
"""
LEAVE = """
redis.call('ZREM', KEYS[1], ARGV[1])
if redis.call('HGET', KEYS[2], 'who') == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 1
"""


class Beat(NamedTuple):
    """How many workers there are, the token under which this one leads (0: another one does), and the number of the view that was published last."""

    workers: int
    token: int
    view: int


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Events of one worker, in their order; `number` counts its entries."""

    sender: str
    number: int
    events: list[Event]


_encode = msgspec.msgpack.Encoder().encode
_entry = msgspec.msgpack.Decoder(Entry).decode
_view = msgspec.msgpack.Decoder(View).decode


class Crew:
    """One worker's seat among the others. `alive`: seconds without a beat after which a worker is not counted · `lead`: after which it does not lead.

    `history`: seconds that events are kept. Every call raises StoreError when the server fails.
    """

    def __init__(
        self, client: Callable[[], Redis | RedisCluster], naming: Naming, sender: str, *, alive: float = 5.0, lead: float = 10.0, history: float = 3600.0
    ) -> None:
        self.sender = sender
        self.lead = lead
        self._client = client
        self._alive = alive
        self._history = history
        self._workers, self._leader, self._fence, self._published, self._stream, self._channel = (
            naming.of(what, "crew") for what in ("workers", "leader", "fence", "view", "events", "views")
        )

    async def beat(self, *, leads: bool) -> Beat:
        """Show oneself; with `leads`, lead if nobody does, and go on leading."""
        keys = [self._workers, self._leader, self._fence, self._published]
        found = await self._call("EVAL", BEAT, 4, *keys, self.sender, self._alive, int(leads), int(self.lead * 1000))
        return Beat(*map(int, found))

    async def leave(self) -> None:
        """Be gone at once, for the others' count and for who leads next."""
        await self._call("EVAL", LEAVE, 2, self._workers, self._leader, self.sender)

    async def publish(self, view: View, token: int) -> bool:
        """Make `view` everybody's. False when another one leads by now, or a later view is there."""
        packed = FORM + zstandard.ZstdCompressor(3).compress(_encode(view))
        return bool(await self._call("EVAL", PUBLISH, 2, self._leader, self._published, self.sender, token, view.id, packed, self._channel))

    async def view(self) -> View | None:
        """The view that was published last; None when there is none, or none that this version can read."""
        packed = await self._call("HGET", self._published, "view")
        if not packed or packed[:1] != FORM:
            return None
        try:
            return _view(zstandard.ZstdDecompressor().decompress(packed[1:], max_output_size=PLAIN_CAP))
        except (zstandard.ZstdError, msgspec.DecodeError) as error:
            raise StoreError(f"the published view cannot be read ({error})", retryable=True) from None

    async def tell(self, number: int, events: Sequence[Event]) -> None:
        """Add an entry to the stream, and trim what is too old."""
        packed = zstandard.ZstdCompressor(3).compress(_encode(Entry(self.sender, number, list(events))))
        clock = await self._call("TIME")
        oldest = int((int(clock[0]) - self._history) * 1000)
        await self._call("XADD", self._stream, "MINID", "~", max(0, oldest), "*", "e", packed)

    async def read(self, after: str) -> list[tuple[str, Entry]]:
        """The next entries after the one called `after` (`0` for all that there are)."""
        found = await self._call("XRANGE", self._stream, f"({after}" if after != "0" else "-", "+", "COUNT", AT_ONCE)
        out: list[tuple[str, Entry]] = []
        for ident, fields in found:
            try:
                out.append((ident.decode(), _entry(zstandard.ZstdDecompressor().decompress(fields[b"e"], max_output_size=PLAIN_CAP))))
            except (zstandard.ZstdError, msgspec.DecodeError, KeyError):
                out.append((ident.decode(), Entry("", 0, [])))
        return out

    async def trim(self) -> None:
        """Keep the stream within its bound."""
        await self._call("XTRIM", self._stream, "MAXLEN", "~", MOST)

    async def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` whenever a view is published, until cancelled or the connection is lost."""
        client = self._client()
        if isinstance(client, RedisCluster):
            # Its client takes no subscriptions: views are polled for.
            await asyncio.Event().wait()
            return
        pubsub = client.pubsub()
        try:
            await pubsub.subscribe(self._channel)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    heard()
        except (RedisError, OSError) as error:
            raise StoreError(str(error), retryable=True) from error
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _call(self, *command: Any) -> Any:
        try:
            async with asyncio.timeout(self.lead / 2):
                return await self._client().execute_command(*command)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(str(error) or "no answer in time", retryable=True) from error
