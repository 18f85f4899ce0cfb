"""What an operator may set about the analyst. Nothing here says what is abnormal: that comes from the calibration."""

from __future__ import annotations

import msgspec

DAY = 86400.0


class Settings(msgspec.Struct, frozen=True):
    """`accounts` profiles kept at most, the rest share one · `window` seconds after which an idle account is forgotten ·
    `half_life` seconds after which what was seen counts half · `pending` events held before they are folded in early ·
    `smallest` accounts in a cluster at least · `families` independent families that a member must show.
    """

    accounts: int = 1_000_000
    window: float = 14 * DAY
    half_life: float = 7 * DAY
    pending: int = 400_000
    smallest: int = 3
    families: int = 2
