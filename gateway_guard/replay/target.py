"""Where recorded requests may be sent, and under whose credentials: the accounts' in staging, never what the log holds."""

from __future__ import annotations

import csv
import ipaddress
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from gateway_guard.errors import UsageError
from gateway_guard.identity.credentials import KEY_LIMIT

# A file of so many credentials is a mistake.
FILE_LIMIT = 256 * 2**20


def checked(url: str, allowed: Iterable[str] = (), *, anywhere: bool = False) -> str:
    """The address of a staging deployment, without a slash at its end. UsageError for one that nobody has declared: recorded prompts go there."""
    parts = urlsplit(url)
    try:
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise UsageError(f"--target {url}: is no address of a deployment; write for example http://127.0.0.1:8080")
    if parts.username or parts.password:
        raise UsageError("--target: an address holds no credentials; give the accounts' as --credentials FILE")
    if not (anywhere or _is_loopback(host) or host in {name.lower().strip("[]") for name in allowed}):
        raise UsageError(f"--target {url}: recorded prompts would be sent to {host}; declare it with `--allow-host {host}` if it is a staging deployment")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_credentials(path: Path) -> Mapping[str, str]:
    """The keys by account, from a CSV file (`account,key`) that nobody else can read. No message holds a key."""
    with _opened(path) as opened:
        rows = csv.DictReader(opened)
        missing = {"account", "key"} - set(rows.fieldnames or ())
        if missing:
            raise UsageError(f"{path}: has no column `{'`, `'.join(sorted(missing))}`: its first line is `account,key`")
        found: dict[str, str] = {}
        for row in rows:
            account, key = (row["account"] or "").strip(), (row["key"] or "").strip()
            if not account or not _is_key(key):
                raise UsageError(f"{path}:{rows.line_num}: an account and a key in plain characters are needed")
            if found.setdefault(account, key) != key:
                raise UsageError(f"{path}:{rows.line_num}: another key for an account that has one already")
    if not found:
        raise UsageError(f"{path}: holds no credentials")
    return found


def _opened(path: Path) -> TextIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    found = os.fstat(descriptor)
    opened = os.fdopen(descriptor, encoding="utf-8-sig", newline="", errors="replace")
    try:
        if not stat.S_ISREG(found.st_mode) or found.st_size > FILE_LIMIT:
            raise UsageError(f"{path}: is not a file of credentials")
        if found.st_mode & 0o077:
            raise UsageError(f"{path}: others can read the credentials (mode {stat.S_IMODE(found.st_mode):04o}): run `chmod 600 {path}`")
    except UsageError:
        opened.close()
        raise
    return opened


def _is_key(key: str) -> bool:
    return 0 < len(key) <= KEY_LIMIT and key.isascii() and key.isprintable() and " " not in key
