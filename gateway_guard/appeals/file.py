"""The SQLite file beside the policy: made for its owner alone, migrated step by step, shared by the guard's processes and the command line."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

from gateway_guard.errors import StoreError, UsageError

BUSY = 5.0  # seconds that one writer waits for another

# Each step is run once, in its own transaction; `user_version` counts them. Never change a step that was released: add one.
STEPS = (
    """
    CREATE TABLE decisions (
        id TEXT PRIMARY KEY, account TEXT NOT NULL, at REAL NOT NULL, grave INTEGER NOT NULL, body TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX decisions_by_account ON decisions (account, grave, at);
    CREATE INDEX decisions_by_age ON decisions (grave, at);
    CREATE TABLE appeals (
        id TEXT PRIMARY KEY, decision TEXT NOT NULL UNIQUE, account TEXT NOT NULL, at REAL NOT NULL, status TEXT NOT NULL, body TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX appeals_by_status ON appeals (status, at);
    CREATE TABLE acknowledgements (
        number INTEGER PRIMARY KEY AUTOINCREMENT, until REAL NOT NULL, withdrawn REAL, body TEXT NOT NULL
    );
    CREATE TABLE acts (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, written INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX acts_to_write ON acts (number) WHERE written = 0;
    CREATE TABLE heads (file TEXT PRIMARY KEY, entry INTEGER NOT NULL, seal TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE views (one INTEGER PRIMARY KEY CHECK (one = 1), body BLOB NOT NULL);
    """,
    """
    CREATE TABLE suspensions (
        number INTEGER PRIMARY KEY AUTOINCREMENT, until REAL NOT NULL, withdrawn REAL, body TEXT NOT NULL
    );
    """,
)


def opened(path: Path, *, create: bool = True) -> sqlite3.Connection:
    """A connection, to be used by one thread at a time. UsageError when the file cannot be one of ours."""
    _prepare(path, create=create)
    try:
        connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        # In WAL mode this survives a crash of the process; a power cut may take the last transactions and never the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        _migrate(connection, path)
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path}: is not a state file of gateway-guard, or is damaged ({error})") from None
    return connection


def failed(path: Path, error: sqlite3.Error) -> StoreError:
    """What a failing database means for its caller."""
    return StoreError(f"{path}: {error}", retryable=isinstance(error, sqlite3.OperationalError))


def _prepare(path: Path, *, create: bool) -> None:
    """Make the file, or judge the one that is there. That one is not opened: closing it again would drop the locks that SQLite holds on it in this process."""
    try:
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                # SQLite would make it readable for all; its journal takes the file's own mode.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no state file: the guard makes it when it starts (`state` in the policy)") from None
    except OSError as error:
        raise UsageError(f"{path}: the state file cannot be opened ({error.strerror}): name another in the policy's `state`") from None
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path}: the state file is not a regular file")
    if mode & 0o077:
        raise UsageError(f"{path}: others can read the state file (mode {stat.S_IMODE(mode):04o}): run `chmod 600 {path}`")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) == len(STEPS):
        return
    connection.execute("BEGIN EXCLUSIVE")
    try:
        version = _version(connection)
        if version > len(STEPS):
            raise UsageError(f"{path}: was written by a newer gateway-guard (version {version} of the file, this one knows {len(STEPS)}): upgrade")
        for step in STEPS[version:]:
            for statement in filter(str.strip, step.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found
