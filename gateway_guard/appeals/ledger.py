"""Appeals, acknowledgements and the decisions that may be appealed against, in the state file. Every time comes from the caller."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
from msgspec import structs

from gateway_guard.appeals.file import failed, opened
from gateway_guard.appeals.state import EACH, KEEP, LEAD, MOST
from gateway_guard.appeals.values import Act, Appeal, Status, Touched
from gateway_guard.errors import UsageError
from gateway_guard.policy.acknowledged import Acknowledgement, Suspension
from gateway_guard.view import EMPTY, View

P = ParamSpec("P")
T = TypeVar("T")

_TOUCHED = msgspec.json.Decoder(Touched)
_SUSPENSION = msgspec.json.Decoder(Suspension)
_VIEW = msgspec.msgpack.Decoder(View)
_APPEAL = msgspec.json.Decoder(Appeal)
_ACKNOWLEDGEMENT = msgspec.json.Decoder(Acknowledgement)


def _safe(method: Callable[Concatenate[Ledger, P], T]) -> Callable[Concatenate[Ledger, P], T]:
    """One thread at a time, and StoreError for what the database refuses."""

    def locked(self: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            try:
                return method(self, *args, **kwargs)
            except sqlite3.Error as error:
                raise failed(self.path, error) from error

    locked.__doc__, locked.__name__ = method.__doc__, method.__name__
    return locked


class Ledger:
    """One connection to the state file. May be used from any thread; raises StoreError when the file cannot be used just now."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db = opened(path, create=create)
        self._seen = -1

    @_safe
    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @_safe
    def changed(self) -> bool:
        """Whether another connection has written since this was asked last; true the first time."""
        version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        before, self._seen = self._seen, version
        return version != before

    @_safe
    def remember(self, decisions: Sequence[Touched], at: float) -> None:
        """Keep decisions for appeals, within the bounds."""
        with self._transaction():
            rows = [(one.id, one.account, one.at, one.grave, _text(one)) for one in decisions]
            self._db.executemany("INSERT OR IGNORE INTO decisions VALUES (?, ?, ?, ?, ?)", rows)
            for account, grave in {(one.account, one.grave) for one in decisions}:
                self._db.execute(
                    "DELETE FROM decisions WHERE account = ?1 AND grave = ?2 AND id NOT IN "
                    "(SELECT id FROM decisions WHERE account = ?1 AND grave = ?2 ORDER BY at DESC LIMIT ?3)",
                    (account, grave, EACH),
                )
            self._db.execute("DELETE FROM decisions WHERE at < ?", (at - KEEP,))
            # A flood of new keys that run into quotas must not push out the decisions that weigh more.
            over = self._db.execute("SELECT max(0, count(*) - ?) FROM decisions", (MOST,)).fetchone()[0]
            self._db.execute("DELETE FROM decisions WHERE id IN (SELECT id FROM decisions ORDER BY grave, at LIMIT ?)", (over,))

    @_safe
    def decision(self, ident: str) -> Touched | None:
        """A decision that was kept."""
        row = self._db.execute("SELECT body FROM decisions WHERE id = ?", (ident,)).fetchone()
        return None if row is None else _TOUCHED.decode(row[0])

    @_safe
    def file(self, appeal: Appeal) -> tuple[Appeal, bool]:
        """Take an appeal; the one that there is, and false, when its decision has been appealed against before."""
        with self._transaction():
            row = self._db.execute("SELECT body FROM appeals WHERE decision = ?", (appeal.decision.id,)).fetchone()
            if row is not None:
                return _APPEAL.decode(row[0]), False
            values = (appeal.id, appeal.decision.id, appeal.decision.account, appeal.at, appeal.status, _text(appeal))
            self._db.execute("INSERT INTO appeals VALUES (?, ?, ?, ?, ?, ?)", values)
            self._act(appeal.at, "appeal.filed", appeal=appeal.id, decision=appeal.decision.id, account=appeal.decision.account)
            return appeal, True

    @_safe
    def appeal(self, ident: str) -> Appeal | None:
        """One appeal, by its id or its decision's."""
        row = self._db.execute("SELECT body FROM appeals WHERE id = ?1 OR decision = ?1", (ident,)).fetchone()
        return None if row is None else _APPEAL.decode(row[0])

    @_safe
    def appeals(self, status: Status | None = None, limit: int = 1000) -> list[Appeal]:
        """Appeals, the oldest first."""
        rows = self._db.execute("SELECT body FROM appeals WHERE ?1 IS NULL OR status = ?1 ORDER BY at, id LIMIT ?2", (status, limit))
        return [_APPEAL.decode(row[0]) for row in rows]

    @_safe
    def answer(self, ident: str, status: Status, at: float, *, by: str, answer: str, relief: Acknowledgement | None = None) -> Appeal:
        """Decide an appeal, and with `relief` acknowledge what it was about, in one step. UsageError when it is not there or is decided."""
        with self._transaction():
            row = self._db.execute("SELECT body FROM appeals WHERE id = ?1 OR decision = ?1", (ident,)).fetchone()
            if row is None:
                raise UsageError(f"there is no appeal {ident}: `gateway-guard appeals list` shows them")
            before = _APPEAL.decode(row[0])
            if before.status != "open":
                raise UsageError(f"appeal {before.id} was {before.status} by {before.by} before; `gateway-guard acknowledge` does more for its account")
            after = structs.replace(before, status=status, answered=at, answer=answer, by=by)
            self._db.execute("UPDATE appeals SET status = ?, body = ? WHERE id = ?", (status, _text(after), after.id))
            self._act(at, f"appeal.{status}", appeal=after.id, decision=after.decision.id, account=after.decision.account, by=by, reason=answer)
            if relief is not None:
                self._give(relief, at, by)
            return after

    @_safe
    def acknowledge(self, given: Acknowledgement, at: float, by: str) -> Acknowledgement:
        """Keep an acknowledgement; it gets its number."""
        with self._transaction():
            return self._give(given, at, by)

    @_safe
    def acknowledgements(self) -> list[Acknowledgement]:
        """All that were ever given, in order."""
        rows = self._db.execute("SELECT number, withdrawn, body FROM acknowledgements ORDER BY number")
        return [_acknowledgement(*row) for row in rows]

    @_safe
    def withdraw(self, number: int, at: float, *, by: str, reason: str) -> Acknowledgement:
        """Take an acknowledgement back. UsageError when there is none in force."""
        with self._transaction():
            row = self._db.execute("SELECT number, withdrawn, body FROM acknowledgements WHERE number = ?", (number,)).fetchone()
            if row is None or row[1] is not None:
                raise UsageError(f"there is no acknowledgement {number} in force: `gateway-guard acknowledgements` shows them")
            self._db.execute("UPDATE acknowledgements SET withdrawn = ? WHERE number = ?", (at + LEAD, number))
            self._act(at, "acknowledgement.withdrawn", acknowledgement=number, by=by, reason=reason)
            return structs.replace(_acknowledgement(*row), withdrawn=at + LEAD)

    @_safe
    def suspend(self, order: Suspension, at: float, by: str) -> Suspension:
        """Keep a suspension; it gets its number."""
        with self._transaction():
            values = (order.until, _text(structs.replace(order, withdrawn=0.0)))
            number = int(self._db.execute("INSERT INTO suspensions (until, body) VALUES (?, ?)", values).lastrowid or 0)
            body = {"suspension": number, order.kind: order.name, "subjects": order.subjects, "until": order.until}
            self._act(at, "suspended", **body, by=by, reason=order.reason)
            return structs.replace(order, number=number)

    @_safe
    def suspensions(self) -> list[Suspension]:
        """All that were ever ordered, in order."""
        rows = self._db.execute("SELECT number, withdrawn, body FROM suspensions ORDER BY number")
        return [_suspension(*row) for row in rows]

    @_safe
    def lift(self, number: int, at: float, *, by: str, reason: str) -> Suspension:
        """End a suspension. UsageError when there is none in force."""
        with self._transaction():
            row = self._db.execute("SELECT number, withdrawn, body FROM suspensions WHERE number = ?", (number,)).fetchone()
            if row is None or row[1] is not None:
                raise UsageError(f"there is no suspension {number} in force: `gateway-guard suspensions` shows them")
            self._db.execute("UPDATE suspensions SET withdrawn = ? WHERE number = ?", (at + LEAD, number))
            self._act(at, "suspension.lifted", suspension=number, by=by, reason=reason)
            return structs.replace(_suspension(*row), withdrawn=at + LEAD)

    @_safe
    def hand_over(self, take: Callable[[Sequence[Act]], None]) -> int:
        """Give `take` the acts that no process has taken yet; how many. When it raises, they are given again: at least once, in order."""
        if self._db.execute("SELECT 1 FROM acts WHERE written = 0 LIMIT 1").fetchone() is None:
            return 0
        with self._transaction():
            acts = [Act(*row) for row in self._db.execute("SELECT number, at, kind, body FROM acts WHERE written = 0 ORDER BY number")]
            if not acts:
                # Another process has taken them meanwhile.
                return 0
            take(acts)
            self._db.execute("UPDATE acts SET written = 1 WHERE written = 0")
        return len(acts)

    @_safe
    def keep_view(self, view: View) -> None:
        """Keep the view in place of the one before."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO views VALUES (1, ?)", (msgspec.msgpack.encode(view),))

    @_safe
    def view(self) -> View:
        """The view that was kept last; an empty one when there is none, or when another version of the guard wrote it and it cannot be read."""
        row = self._db.execute("SELECT body FROM views").fetchone()
        try:
            return EMPTY if row is None else _VIEW.decode(row[0])
        except msgspec.DecodeError:
            return EMPTY

    @_safe
    def reached(self, file: str, entry: int, seal: str) -> None:
        """The audit log's file goes as far as this."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO heads VALUES (?, ?, ?)", (file, entry, seal))

    @_safe
    def heads(self) -> list[tuple[str, int, str]]:
        """(file, entry, seal) of each of the audit log's files."""
        return list(self._db.execute("SELECT file, entry, seal FROM heads ORDER BY file"))

    def _give(self, given: Acknowledgement, at: float, by: str) -> Acknowledgement:
        cursor = self._db.execute("INSERT INTO acknowledgements (until, body) VALUES (?, ?)", (given.until, _text(structs.replace(given, withdrawn=0.0))))
        number = int(cursor.lastrowid or 0)
        body = {"acknowledgement": number, given.kind: given.name, "subjects": given.subjects, "families": given.families, "until": given.until}
        self._act(at, "acknowledged", **body, appeal=given.appeal, by=by, reason=given.reason)
        return structs.replace(given, number=number)

    def _act(self, at: float, kind: str, **body: Any) -> None:
        self._db.execute("INSERT INTO acts (at, kind, body) VALUES (?, ?, ?)", (at, kind, msgspec.json.encode(body).decode()))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _acknowledgement(number: int, withdrawn: float | None, body: str) -> Acknowledgement:
    return structs.replace(_ACKNOWLEDGEMENT.decode(body), number=number, withdrawn=math.inf if withdrawn is None else withdrawn)


def _suspension(number: int, withdrawn: float | None, body: str) -> Suspension:
    return structs.replace(_SUSPENSION.decode(body), number=number, withdrawn=math.inf if withdrawn is None else withdrawn)


def _text(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
