"""What an operator tells of an account, turned into an Identity: names become keyed hashes, nothing else is kept."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from gateway_guard.facts import Identity
from gateway_guard.identity.address import prefix
from gateway_guard.identity.pseudonyms import Pseudonyms

FIELDS = ("account", "created_at", "plan", "org", "payment", "email_domain", "signup_ip")
FIELD_LIMIT = 1024
_LATEST = 1e11
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def identity(record: Mapping[str, object], pseudonyms: Pseudonyms) -> Identity:
    """The identity that a record of `FIELDS` tells; all but `account` may be missing. ValueError names the field that is wrong, not its content."""
    account, plan = _text(record, "account"), _text(record, "plan")
    if not account:
        raise ValueError("`account` is empty: every record needs the account's name")
    if _CONTROL.search(account) or _CONTROL.search(plan):
        raise ValueError("`account` or `plan` has control characters, which would reach the terminal of whoever reads a report")
    org, payment = _text(record, "org"), _text(record, "payment")
    domain, address = _text(record, "email_domain").lower(), _text(record, "signup_ip")
    return Identity(
        account=pseudonyms.text("account", account),
        org=pseudonyms.text("org", org) if org else "",
        plan=plan,
        created_at=_created_at(record.get("created_at")),
        payment=pseudonyms.number("payment", payment) if payment else 0,
        email_domain=pseudonyms.number("email_domain", domain) if domain else 0,
        signup=pseudonyms.number("network", _prefix(address)) if address else 0,
    )


def _text(record: Mapping[str, object], name: str) -> str:
    held = record.get(name)
    if not isinstance(held, str):
        if held is None:
            return ""
        if isinstance(held, bool) or not isinstance(held, int):
            raise ValueError(f"`{name}` is not text")
    text = str(held).strip()
    if len(text) > FIELD_LIMIT:
        raise ValueError(f"`{name}` has {len(text)} characters: at most {FIELD_LIMIT} are taken")
    return text


def _created_at(held: object) -> float:
    if held is None or held == "":
        return 0.0
    try:
        seconds = float(held) if isinstance(held, str | int | float) and not isinstance(held, bool) else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < _LATEST:
        raise ValueError("`created_at` is not a time: give seconds since 1970 (UTC), such as 1767225600 (milliseconds and dates are not taken)")
    return seconds


def _prefix(address: str) -> str:
    found = prefix(address)
    if not found:
        raise ValueError("`signup_ip` is not an IP address: give one, or leave it empty")
    return found
