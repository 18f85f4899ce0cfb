"""The account directory: what the operator's sign-up and billing systems know, from `accounts.csv` or from a function."""

from __future__ import annotations

import csv
import inspect
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import TextIO

from gateway_guard.errors import DirectoryError
from gateway_guard.facts import Identity
from gateway_guard.identity.columns import Builder, Columns, Conflict, HashIndex
from gateway_guard.identity.credentials import KEY_LIMIT, recorded_form
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.identity.recent import Recent
from gateway_guard.identity.records import FIELDS, identity

Record = Mapping[str, object]
Lookup = Callable[[str], Record | Awaitable[Record | None] | None]
Stamp = tuple[int, int, int]

_REMEMBERED = 32_768
_COLUMNS = frozenset(("key", *FIELDS))


class CsvDirectory:
    """An `accounts.csv`. Never changes: a newer file is a new directory."""

    def __init__(self, path: Path, pseudonyms: Pseudonyms, stamp: Stamp, columns: Columns) -> None:
        self._path = path
        self._pseudonyms = pseudonyms
        self._stamp = stamp
        self._columns = columns
        self._recent_keys: Recent[str, Identity] = Recent(_REMEMBERED)
        self._recent_accounts: Recent[str, Identity] = Recent(_REMEMBERED)

    @classmethod
    def load(cls, path: Path, pseudonyms: Pseudonyms) -> CsvDirectory:
        """Read the file; DirectoryError says where it is wrong and what to do."""
        try:
            with path.open(encoding="utf-8-sig", newline="") as opened:
                stamp = _stamp(os.fstat(opened.fileno()))
                columns = _read(path, opened, pseudonyms)
            if _stamp(path.stat()) != stamp:
                raise DirectoryError(f"{path}: changed while it was read: write the new file aside and rename it into place")
        except OSError as error:
            raise DirectoryError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from None
        except UnicodeDecodeError:
            raise DirectoryError(f"{path}:{_undecodable(path)}: not UTF-8: save the file in UTF-8") from None
        return cls(path, pseudonyms, stamp, columns)

    def reloaded(self) -> CsvDirectory:
        """The directory as the file is now: this one when the file is the same; DirectoryError when it cannot be used (this one stays good)."""
        try:
            stamp = _stamp(self._path.stat())
        except OSError as error:
            raise DirectoryError(f"{self._path}: cannot be read ({error.strerror}): check the path and its permissions") from None
        return self if stamp == self._stamp else self.load(self._path, self._pseudonyms)

    def find(self, credential: str) -> Identity | None:
        """The identity behind the hash of an API key."""
        return self._recent_keys.get(credential) or self._look(self._recent_keys, self._columns.credentials, credential)

    def account(self, account: str) -> Identity | None:
        """The identity of an account, by its hash."""
        return self._recent_accounts.get(account) or self._look(self._recent_accounts, self._columns.accounts, account)

    def _look(self, recent: Recent[str, Identity], index: HashIndex, name: str) -> Identity | None:
        row = index.row(name)
        if row < 0:
            return None
        found = self._columns.identity(row)
        recent.put(name, found)
        return found

    def name(self, account: str) -> str:
        """The operator's own name of an account; the hash itself when it is not in the directory."""
        row = self._columns.accounts.row(account)
        return account if row < 0 else self._columns.name(row)

    def __len__(self) -> int:
        return len(self._columns.accounts)


class CallableDirectory:
    """A function of the host application that is asked for each raw API key of live traffic (never in a replay).

    It answers with a mapping of the fields of `accounts.csv` (`account` and what else is known), or None for an unknown key; it may be
    asynchronous, and remembers what is dear to find out: nothing is kept here, since a key may be withdrawn at any moment.
    """

    def __init__(self, function: Lookup, pseudonyms: Pseudonyms) -> None:
        self._function = function
        self._pseudonyms = pseudonyms

    async def find(self, secret: str) -> Identity | None:
        """The identity behind a raw API key."""
        record, trouble = await self._ask(secret)
        if trouble:
            raise DirectoryError(f"the directory function raised {trouble}")
        try:
            return None if record is None else identity(record, self._pseudonyms)
        except ValueError as error:
            raise DirectoryError(f"the directory function: {error}") from None

    async def _ask(self, secret: str) -> tuple[Record | None, str]:
        """The answer, or the name of what was raised: neither its text nor its trace goes on, both may quote the key that was asked for."""
        try:
            answer = self._function(secret)
            return (await answer if inspect.isawaitable(answer) else answer), ""
        except Exception as error:
            return None, type(error).__name__


def _read(path: Path, opened: TextIO, pseudonyms: Pseudonyms) -> Columns:
    builder = Builder()
    for line, record in _records(path, opened):
        try:
            builder.add(_credential(record.get("key", "").strip(), pseudonyms), record["account"].strip(), identity(record, pseudonyms), line)
        except ValueError as error:
            raise DirectoryError(f"{path}:{line}: {error}") from None
    try:
        return builder.build()
    except Conflict as error:
        raise DirectoryError(f"{path}:{error.lines[1]}: {error} (the other is in line {error.lines[0]}): leave only the right one") from None


def _credential(key: str, pseudonyms: Pseudonyms) -> str:
    if len(key) > KEY_LIMIT:
        raise ValueError(f"`key` has {len(key)} characters: at most {KEY_LIMIT} are taken")
    held = recorded_form(key)
    if held is not None:
        return held.name
    return pseudonyms.text("credential", key) if key else ""


def _records(path: Path, opened: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(opened, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        _check(path, names)
        for row in reader:
            if len(row) == len(names):
                yield reader.line_num, dict(zip(names, row, strict=True))
            elif row:
                raise DirectoryError(f"{path}:{reader.line_num}: {len(row)} fields where the header has {len(names)}: the line is torn or has a stray comma")
    except csv.Error as error:
        raise DirectoryError(f"{path}:{reader.line_num}: not CSV ({error}): look for a quote that is not closed") from None


def _check(path: Path, names: list[str]) -> None:
    if "account" not in names:
        raise DirectoryError(f"{path}:1: no `account` column: the first line names the columns, `account` among them (of {', '.join(sorted(_COLUMNS))})")
    twice = sorted(name for name in _COLUMNS if names.count(name) > 1)
    if twice:
        raise DirectoryError(f"{path}:1: column `{twice[0]}` is there twice: leave one")


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _undecodable(path: Path) -> int:
    with path.open("rb") as opened:
        for number, line in zip(count(1), opened, strict=False):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1
