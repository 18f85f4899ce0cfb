"""A million accounts in a few flat buffers instead of a million objects.

Theory of operation. A row is 56 packed bytes. Hashes are evenly spread 80-bit numbers, so an index over them is three sorted columns (upper 64 bits,
lower 16, row) and a bisection: 14 bytes an entry, where a dict takes 150. An account may have several rows (one for each of its keys); they
tell of one account, so what the first of them leaves empty is filled from the others, and two that contradict each other are an error.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway_guard.facts import Identity

_ROW = struct.Struct("<10s10sIdQQQ")
_FACTS = ("org", "plan", "created_at", "payment", "email_domain", "signup_ip")
_TABLE = np.dtype(list(zip(("account", *_FACTS), ("S10", "S10", "<u4", "<f8", "<u8", "<u8", "<u8"), strict=True)))
_HASH = np.dtype([("head", ">u8"), ("tail", ">u2")])
_NO_HASH = bytes(10)

Rows = npt.NDArray[np.uint32]


class Conflict(ValueError):
    """Two lines that cannot both be true."""

    def __init__(self, lines: tuple[int, int], what: str) -> None:
        self.lines = lines
        super().__init__(what)


class HashIndex:
    """From a hash of 20 hex digits to a row."""

    __slots__ = ("_heads", "_rows", "_tails")

    def __init__(self, heads: Sequence[int], tails: Sequence[int], rows: Sequence[int]) -> None:
        self._heads = heads
        self._tails = tails
        self._rows = rows

    def __len__(self) -> int:
        return len(self._heads)

    def row(self, name: str) -> int:
        """The row, -1 when there is none."""
        try:
            head, tail = int(name[:16], 16), int(name[16:], 16)
        except ValueError:
            return -1
        at = bisect_left(self._heads, head)
        while at < len(self._heads) and self._heads[at] == head:
            if self._tails[at] == tail:
                return self._rows[at]
            at += 1
        return -1


class Builder:
    """Takes rows one by one."""

    def __init__(self) -> None:
        self._table = bytearray()
        self._credentials = bytearray()
        self._names = bytearray()
        self._ends = array("Q", [0])
        self._plans: dict[str, int] = {"": 0}
        self._lines = array("I")

    def add(self, credential: str, name: str, found: Identity, line: int) -> None:
        """One row of the file; `credential` is the hash of its key or empty."""
        plan = self._plans.setdefault(found.plan, len(self._plans))
        account, org = bytes.fromhex(found.account), bytes.fromhex(found.org)
        self._table += _ROW.pack(account, org, plan, found.created_at, found.payment, found.email_domain, found.signup)
        self._credentials += bytes.fromhex(credential) if credential else _NO_HASH
        self._names += name.encode()
        self._ends.append(len(self._names))
        self._lines.append(line)

    def build(self) -> Columns:
        """The finished columns; Conflict when two rows contradict each other."""
        table = np.frombuffer(self._table, _TABLE)
        owners, accounts = _by_account(table)
        self._merge(table, owners)
        credentials = self._by_credential(owners)
        return Columns(self._table, tuple(self._plans), self._names, self._ends, accounts=accounts, credentials=credentials)

    def _merge(self, table: npt.NDArray[Any], owners: Rows) -> None:
        """Fill the first row of each account from its other rows."""
        others = np.flatnonzero(owners != np.arange(len(owners), dtype=np.uint32))
        firsts = owners[others]
        for name in _FACTS:
            column = table[name]
            empty = np.zeros(1, column.dtype)[0]
            told = column[others] != empty
            fill = told & (column[firsts] == empty)
            column[firsts[fill]] = column[others[fill]]
            clash = others[told & (column[others] != column[firsts])]
            if len(clash):
                row = int(clash[0])
                raise Conflict((self._lines[int(owners[row])], self._lines[row]), f"two values of `{name}` for one account")

    def _by_credential(self, owners: Rows) -> HashIndex:
        hashes = np.frombuffer(self._credentials, _HASH)
        rows = np.flatnonzero((hashes["head"] != 0) | (hashes["tail"] != 0))
        order, new = _sorted(hashes[rows])
        rows = rows[order]
        clash = np.flatnonzero(~new[1:] & (owners[rows[1:]] != owners[rows[:-1]]))
        if len(clash):
            first, second = sorted((int(rows[clash[0]]), int(rows[clash[0] + 1])))
            raise Conflict((self._lines[first], self._lines[second]), "one key for two accounts")
        return _index(hashes[rows[new]], owners[rows[new]])


class Columns:
    """Accounts by row, by the hash of a credential, and by the hash of the account."""

    __slots__ = ("_ends", "_names", "_plans", "_table", "accounts", "credentials")

    def __init__(self, table: bytearray, plans: tuple[str, ...], names: bytearray, ends: array[int], *, accounts: HashIndex, credentials: HashIndex) -> None:
        self._table = table
        self._plans = plans
        self._names = names
        self._ends = ends
        self.accounts = accounts
        self.credentials = credentials

    def identity(self, row: int) -> Identity:
        """Who is in this row."""
        account, org, plan, created_at, payment, email_domain, signup = _ROW.unpack_from(self._table, row * _ROW.size)
        return Identity(account.hex(), org.hex() if org != _NO_HASH else "", self._plans[plan], created_at, payment, email_domain, signup)

    def name(self, row: int) -> str:
        """The operator's name of the account in this row."""
        return self._names[self._ends[row] : self._ends[row + 1]].decode()


def _by_account(table: npt.NDArray[Any]) -> tuple[Rows, HashIndex]:
    """For each row the first row of the same account, and the index of those."""
    hashes = np.ascontiguousarray(table["account"]).view(_HASH)
    order, new = _sorted(hashes)
    groups = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0)) if len(order) else order
    owners = np.empty(len(order), np.uint32)
    owners[order] = order[groups]
    firsts = order[new]
    return owners, _index(hashes[firsts], firsts)


def _sorted(hashes: npt.NDArray[Any]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """The order (equal ones in file order), and which of the sorted differ from the one before."""
    order = np.lexsort((hashes["tail"], hashes["head"]))
    new = np.ones(len(order), np.bool_)
    new[1:] = hashes[order[1:]] != hashes[order[:-1]]
    return order, new


def _index(hashes: npt.NDArray[Any], rows: npt.NDArray[Any]) -> HashIndex:
    heads, tails = hashes["head"].astype(np.uint64), hashes["tail"].astype(np.uint16)
    return HashIndex(heads.data, tails.data, rows.astype(np.uint32).data)
