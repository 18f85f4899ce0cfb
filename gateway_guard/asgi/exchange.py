"""One guarded exchange: hold the body, decide, act, pass on, watch the usage go by, settle.

Theory of operation. One object lives for one request and holds all of its state. Whatever happens (the client leaves at any message, the application
raises, the server cancels the task) ends in `_serve`, once, and that settles the reservation. Answers are passed on message by message as they come; the meter
reads each part as it goes by and keeps nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.types import Message, Receive, Scope, Send

from gateway_guard.asgi.body import HeldBody
from gateway_guard.asgi.challenge import ask, met
from gateway_guard.asgi.departure import Departure
from gateway_guard.asgi.ids import new_id
from gateway_guard.asgi.outgoing import Outgoing, Pace
from gateway_guard.asgi.respond import refuse, refuse_unread, start_with
from gateway_guard.asgi.shaping import shape, with_headers
from gateway_guard.decision import Action, Decision
from gateway_guard.errors import BodyTooLarge, RequestError, StoreError, Unavailable
from gateway_guard.facts import Asks, Done, Ending, Identity, RequestFacts, Seen, Usage
from gateway_guard.intake import PASS, Intake, by_size
from gateway_guard.ports import Dialect, Meter
from gateway_guard.reading import Reading
from gateway_guard.rewrite.returned import bears_seal
from gateway_guard.rewrite.shape import Step
from gateway_guard.rewrite.steps import is_stream, rewriter
from gateway_guard.trace.recording import Recording

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from gateway_guard.asgi.engine import Engine


STREAM = int(Asks.STREAM)


class Exchange:
    """The life of one guarded request."""

    # Until something else is known. (Of the class, so that making an exchange does not set each of them.)
    _decision: Decision | None = None
    _facts: RequestFacts | None = None
    _reading: Reading | None = None
    _meter: Meter | None = None
    _out: Outgoing | None = None
    _departure: Departure | None = None
    _steps: Sequence[Step] = ()
    _status = _ticket = 0
    _first = 0.0
    _client = _pass = ""
    _raw = _notice = b""
    _complete = _sealed = False

    def __init__(self, engine: Engine, scope: Scope, receive: Receive, send: Send, dialect: Dialect) -> None:
        self._engine = engine
        self._scope = scope
        self._send = send
        self._dialect = dialect
        self._headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        self._telling = _telling(self._headers, engine.intake)
        self._body = HeldBody(receive)
        self._id = new_id()
        peer = scope.get("client")
        self._peer: str = peer[0] if peer else ""
        self._sealer = engine.intake.custody.nobody

    async def run(self, app: ASGIApp) -> None:
        """Guard one request to `app`."""
        if not await self._read():
            return
        facts = self._facts
        assert facts is not None  # noqa: S101 - for the type checker; `_read` said so
        try:
            decision = self._decision = await self._engine.gate.decide(facts)
        except StoreError:
            unavailable = Unavailable("Quotas cannot be told at the moment. Try again in a few seconds.")
            self._engine.unread(unavailable)
            await refuse_unread(self._send, self._dialect, unavailable, self._id)
            return
        self._ticket = self._engine.decided(decision, facts)
        if not self._ticket:
            self._raw = b""
        if not decision.served:
            self._tell(facts.at, None, "refused")
            self._record(facts.at, None, "refused")
            if decision.action is Action.CHALLENGE:
                await ask(self._engine, self._scope, self._send, self._dialect, decision)
            else:
                await refuse(self._send, self._dialect, decision, self._appeals())
            return
        await self._serve(app, decision)

    def _appeals(self) -> str:
        """Where the caller can appeal, as it sees the path."""
        path = self._engine.appeals_path
        return f"{self._scope.get('root_path', '')}{path}" if path else ""

    async def _read(self) -> bool:
        """Hold and understand the request. False when it was answered or its client has left already."""
        engine, body = self._engine, self._body
        intake, limit = engine.intake, engine.intake.rules.body_limit
        if _declared_length(self._telling) > limit:
            body.end = "too_large"
        else:
            await body.take(limit)
        if body.end == "left":
            return False
        if engine.intake is not intake:
            # Reloaded while the body came: other headers may count now, and other ones must not go on.
            intake = engine.intake
            self._telling = _telling(self._headers, intake)
        try:
            reading = self._understand()
            self._reading = reading if engine.sink is not None else None
            self._strip()
            client = self._client = intake.identifier.client(self._telling, self._peer)
            identity = await self._identify(engine.clock()) if intake.identifier.waits else self._known()
            passes = await met(engine, identity, self._pass) if engine.desk is not None else ()
        except RequestError as error:
            engine.unread(error)
            await refuse_unread(self._send, self._dialect, error, self._id)
            return False
        if reading.blobs:
            self._sealed = bears_seal(reading.blobs)
        if intake.custody.binds and engine.gate.rules.enforcing:
            self._sealer = intake.custody.sealer(identity, reading)
        # The time is read after whatever identifying had to wait for: times are in the order of deciding, or a replay could not be.
        self._facts = intake.facts(self._id, engine.clock(), identity, intake.identifier.network(client), self._dialect, reading, passes)
        return True

    def _strip(self) -> None:
        """Take away identity headers that this peer had no right to send, which the server behind could believe, and the guard's own pass."""
        names = self._engine.intake.identifier.names_to_strip(self._peer)
        if self._engine.desk is not None:
            self._pass = next((value.decode("latin-1") for name, value in self._telling if name == PASS), "")
            names |= {PASS}
        if names and any(name in names for name, _ in self._telling):
            self._telling = [(name, value) for name, value in self._telling if name not in names]
            self._headers = [(name, value) for name, value in self._headers if name not in names]
            self._scope = {**self._scope, "headers": [(name, value) for name, value in self._scope["headers"] if name not in names]}

    def _understand(self) -> Reading:
        """The body's reading. What may pass although it cannot be read is counted by its size, so that being unreadable is no way around a quota."""
        engine = self._engine
        raw = self._raw = self._body.raw()
        limit = engine.intake.rules.body_limit
        try:
            if self._body.end == "too_large":
                raise BodyTooLarge(f"The request body is longer than {limit} bytes.")
            understood = engine.intake.read(self._dialect, self._telling, raw)
            if understood.raw is not raw and engine.gate.rules.enforcing:
                self._rewrite(understood.raw)
            self._raw = understood.raw
            return understood.reading
        except RequestError as error:
            if not engine.passes(error):
                raise
            engine.unread(error)
            return by_size(raw)

    def _rewrite(self, raw: bytes) -> None:
        """Hand on the very bytes that were read: a compressed or ambiguous body could say something else to the server behind."""
        self._body.replace(raw)
        kept = [(name, value) for name, value in self._headers if name not in (b"content-encoding", b"content-length", b"transfer-encoding")]
        self._scope = {**self._scope, "headers": [*kept, (b"content-length", str(len(raw)).encode())]}

    async def _identify(self, at: float) -> Identity:
        try:
            return await self._engine.intake.identifier.identify(self._telling, self._peer, at)
        except RequestError as error:
            return self._stranger(error)

    def _known(self) -> Identity:
        """The identity where nothing has to be waited for."""
        try:
            return self._engine.intake.identifier.known(self._telling, self._peer)
        except RequestError as error:
            return self._stranger(error)

    def _stranger(self, error: RequestError) -> Identity:
        """Somebody who could not be identified, where the policy lets him go on."""
        if not self._engine.passes(error):
            raise error
        self._engine.unread(error)
        return self._engine.intake.stranger(self._client)

    async def _serve(self, app: ASGIApp, decision: Decision) -> None:
        ending: Ending = "raised"
        try:
            if decision.wait and not await self._waited(decision.wait):
                ending = "left"
                return
            if decision.profile or decision.pace or self._sealed or self._sealer.binds:
                self._shape(decision)
            if self._engine.sink is not None:
                # The fingerprint is taken once the application waits for its model, not before the request reaches it.
                asyncio.get_running_loop().call_soon(self._fingerprint)
            await app(self._scope, self._body.receive, self._pass_on)
            # An application that returns in the middle of its answer has seen the client leave.
            ending = "done" if self._complete or not self._status else "left"
        except RequestError as error:
            if self._status:
                raise
            ending = "refused"
            await refuse_unread(self._send, self._dialect, error, self._id)
        except OSError:
            # Servers signal a client that has gone by an OSError from `send`.
            ending = "left"
            raise
        except asyncio.CancelledError:
            ending = "left"
            raise
        finally:
            if self._departure is not None:
                self._departure.close()
            # Once, whatever has happened: the reservation comes back.
            usage = self._meter.usage() if self._meter is not None else None
            at = self._engine.clock()
            await self._engine.settle(decision, usage, at)
            self._tell(at, usage, ending)
            self._record(at, usage, ending)

    def _shape(self, decision: Decision) -> None:
        """Send the model server a request for less, and see to it that so the answer will be. What has to be changed and cannot be read is refused."""
        facts, profile = self._facts, self._engine.gate.rules.policy.profiles.get(decision.profile)
        assert facts is not None  # noqa: S101 - set before the decision
        marks = self._engine.intake.marker.of(decision.cluster) if decision.marked else None
        shaped = shape(decision, profile, self._body.raw(), facts, self._sealer, marks, sealed=self._sealed)
        if shaped.body is not None:
            self._rewrite(shaped.body)
        if shaped.headers:
            self._scope = with_headers(self._scope, shaped.headers)
        self._steps, self._notice = shaped.steps, shaped.notice
        if decision.pace and self._body.end == "complete":
            self._departure = self._body.departure()

    def _way_out(self, kind: str, coding: str, rate: float, *, streaming: bool) -> Outgoing | None:
        """What the answer goes through. One that cannot be read passes as it is, and is counted."""
        found = rewriter(self._steps, kind, coding, streaming=streaming) if self._steps else None
        if self._steps and found is None:
            self._engine.counts["answer_unread"] += 1
        pace = None
        if self._departure is not None and is_stream(kind, streaming=streaming):
            pace = Pace(rate, self._departure)
        return Outgoing(self._send, found, pace) if found is not None or pace is not None else None

    async def _waited(self, seconds: float) -> bool:
        """Hold the request. False when the client left meanwhile."""
        held = asyncio.ensure_future(self._engine.lane.hold(seconds))
        left = asyncio.ensure_future(self._body.receive_live())
        try:
            await asyncio.wait((held, left), return_when=asyncio.FIRST_COMPLETED)
            if left.done() and not left.cancelled() and left.exception() is None and left.result()["type"] == "http.disconnect":
                return False
            await held
            return True
        finally:
            for task in (held, left):
                task.cancel()
            await asyncio.gather(held, left, return_exceptions=True)

    async def _pass_on(self, message: Message) -> None:
        """The application's `send`."""
        kind = message["type"]
        if kind == "http.response.start":
            message = self._started(message)
        elif kind == "http.response.body" and self._meter is not None:
            if self._ticket and not self._first:
                self._first = self._engine.clock()
            self._meter.feed(message.get("body", b""))
        if self._out is None:
            await self._send(message)
        elif kind == "http.response.start":
            await self._out.start(message)
        elif kind == "http.response.body":
            await self._out.body(message)
        self._complete = kind == "http.response.body" and not message.get("more_body", False)

    def _started(self, message: Message) -> Message:
        """The answer's beginning, with our headers; from here on its usage is watched."""
        facts, decision = self._facts, self._decision
        assert facts is not None  # noqa: S101 - set before the decision
        assert decision is not None  # noqa: S101 - decided before anything is passed on
        self._status = message["status"]
        message, kind, coding = start_with(message, self._dialect, decision, self._notice)
        if self._status < 400:
            streaming = bool(facts.asks & STREAM)
            self._meter = self._dialect.meter(kind, content_encoding=coding, input_tokens=facts.input_tokens, streaming=streaming)
            if self._steps or decision.pace:
                self._out = self._way_out(kind, coding, decision.pace, streaming=streaming)
        return message

    def _fingerprint(self) -> None:
        """Tell the analyst what was seen. The text ends here."""
        reading, facts, decision, sink = self._reading, self._facts, self._decision, self._engine.sink
        if reading is None or facts is None or decision is None or sink is None:
            return
        self._reading = None
        sink(Seen(self._engine.intake.fingerprinted(facts, reading, self._headers), decision.would.label, decision.cluster))

    def _tell(self, at: float, usage: Usage | None, ending: Ending) -> None:
        """Tell the analyst that it is over, after what was seen. Nobody waits for a fingerprint that is not taken yet."""
        if self._engine.sink is None or self._decision is None:
            return
        done = Done(self._decision.id, at, self._decision.account, usage or Usage(), self._status, ending)
        if self._reading is None:
            self._engine.sink(done)
        else:
            asyncio.get_running_loop().call_soon(self._told, done)

    def _told(self, done: Done) -> None:
        self._fingerprint()
        if self._engine.sink is not None:
            self._engine.sink(done)

    def _record(self, at: float, usage: Usage | None, ending: Ending) -> None:
        facts, decision = self._facts, self._decision
        if not self._ticket or facts is None or decision is None:
            return
        held = decision.wait if decision.served else 0.0
        path = self._scope["path"]
        # Hidden here, where it is known who the peer was and what was believed of its headers.
        headers = self._engine.intake.identifier.hide(self._headers, self._peer, facts.identity)
        how = (self._status, self._first, usage, None, ending, held, facts.passes)
        self._engine.ended(Recording(self._ticket, facts.id, facts.at, at, self._client, "POST", path, headers, self._raw, facts.identity, *how))


def _telling(headers: list[tuple[bytes, bytes]], intake: Intake) -> list[tuple[bytes, bytes]]:
    """The few headers that are looked at, again and again."""
    names = intake.telling
    return [pair for pair in headers if pair[0] in names]


def _declared_length(headers: list[tuple[bytes, bytes]]) -> int:
    """The declared content length, 0 when there is none or it is no number (the server behind answers for that)."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else 0
    return 0
