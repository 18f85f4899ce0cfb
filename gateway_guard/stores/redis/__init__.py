"""Debts that many workers and hosts share, on Redis (6.2 or newer) or Valkey."""

from gateway_guard.stores.redis.ledger import Naming
from gateway_guard.stores.redis.link import Link
from gateway_guard.stores.redis.shared import SharedStore, Terms
from gateway_guard.stores.redis.shelves import Shelves

__all__ = ["Link", "Naming", "SharedStore", "Shelves", "Terms"]
