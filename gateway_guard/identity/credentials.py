"""The one secret that a request presents, and how a recorder hides it.

A server behind the guard may read another header than the guard does. So a request that presents two different credentials is refused
rather than charged to either of them, and a credential header that cannot be read is refused rather than skipped: else a caller
would be counted as one account here and served as another one there. The policy's `keys` names every header that the server reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from gateway_guard.errors import Unidentified
from gateway_guard.identity.headers import Headers, Pairs
from gateway_guard.identity.pseudonyms import Pseudonyms

KEY_LIMIT = 4096
TOKEN_LIMIT = 16_384
NAME_LIMIT = 512
AUTHORIZATION = b"authorization"
# Headers that a recorder hides, with the kind of hash that stands for what they hold.
SECRET = dict.fromkeys((AUTHORIZATION, b"x-api-key", b"api-key", b"x-goog-api-key"), "credential") | dict.fromkeys(
    (b"proxy-authorization", b"cookie", b"x-auth-token", b"x-amz-security-token", b"x-gateway-guard-pass"), "secret"
)

_KEYS = frozenset((AUTHORIZATION, b"x-api-key", b"api-key"))
_SCHEMED = frozenset((AUTHORIZATION, b"proxy-authorization"))
_SCHEMES = frozenset(b"basic bearer digest negotiate ntlm token apikey dpop privatetoken aws4-hmac-sha256".split())
_BLANKS = b" \t"
_RECORDED = re.compile(r"(hashed|account):([0-9a-f]{20})")
# Visible ASCII but the comma: servers differ on how they read other bytes, and a comma is what joined headers look like.
_PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte != ord(","))

# After a recorded hash: the guard refused what it stands for. No key has a comma, so a replay refuses it too.
REFUSED = ",refused"

KeyHeader = Literal["authorization", "x-api-key", "api-key"]


def is_token(secret: str) -> bool:
    """Has it the form of a signed identity token (three parts, the first a JSON object in base64url)? Says nothing about whether it is a good one."""
    return secret.startswith("eyJ") and secret.count(".") == 2


class Recorded(NamedTuple):
    """What a recorder wrote in a credential's place: the hash of the credential, or the account that it was found to belong to."""

    name: str
    is_account: bool


def recorded_form(text: str) -> Recorded | None:
    """`hashed:...` or `account:...`, 20 hex digits. Meant for logs only: taken from live traffic, whoever has read a log could be any account in it."""
    held = _RECORDED.fullmatch(text)
    return None if held is None else Recorded(held[2], held[1] == "account")


class Credentials:
    """Reads the secret from the policy's headers, `names`. `tokens`: identity tokens are taken from `authorization`, listed among `keys` or not."""

    __slots__ = ("_hint", "_tokens", "_tokens_only", "names")

    def __init__(self, keys: Iterable[KeyHeader], *, tokens: bool = False) -> None:
        names = [key.encode() for key in keys]
        self._tokens_only = tokens and AUTHORIZATION not in names
        self.names = frozenset([*names, AUTHORIZATION] if tokens else names)
        self._tokens = tokens
        self._hint = _hint(names, tokens)

    def secret(self, headers: Headers, *, recorded: bool = False) -> str | None:
        """The secret, None when there is none; Unidentified when there are two, or one that cannot be read."""
        names = self.names
        found = source = b""
        for name, value in headers:
            if name in names:
                secret = _bearer(value) if name == AUTHORIZATION else value.strip(_BLANKS)
                if secret and secret != found:
                    if found:
                        raise Unidentified("The request presents two different credentials: send one.")
                    found, source = secret, name
        if not found:
            return None
        if not _readable(found, self._tokens):
            raise Unidentified("The credential cannot be read: it is too long, or has characters that no key has.")
        text = found.decode("ascii")
        if self._tokens_only and source == AUTHORIZATION and not is_token(text) and not (recorded and recorded_form(text)):
            raise Unidentified("The authorization header holds no identity token.")
        return text

    def missing(self) -> Unidentified:
        """The refusal of a caller who presents nothing."""
        return Unidentified(self._hint)


def hide(
    headers: Headers,
    pseudonyms: Pseudonyms,
    *,
    named: Mapping[bytes, str] | None = None,
    account: str = "",
    tokens: bool = False,
    recorded: bool = False,
) -> Pairs:
    """The headers with `hashed:...` in place of every secret; names, order and scheme stay.

    `named`: further headers to hide, each with the kind of its hash (`{b"x-account": "account"}`). `account`: the account that the request was
    found to be; `account:...` is then written in place of its credential, so that a replay follows it over all its tokens. A credential that
    could not be read, or with `tokens` an identity token that did not give an account, is marked so that a replay refuses it too.
    `recorded`: the headers are a log's, and what is hidden already stays as it is.
    """
    kinds = {**SECRET, **(named or {})}

    def hidden(name: bytes, value: bytes) -> bytes:
        scheme, secret = _schemed(value) if name in _SCHEMED else (b"", value.strip(_BLANKS))
        text = secret.decode("utf-8", "backslashreplace")
        if not text or (recorded and recorded_form(text.removesuffix(REFUSED))):
            return value
        if account and name in _KEYS:
            return b"%saccount:%s" % (scheme, account.encode())
        readable = stated_text(secret) is not None if name not in SECRET else name not in _KEYS or _readable(secret)
        refused = not readable or (tokens and name in _KEYS and is_token(text))
        return b"%shashed:%s%s" % (scheme, pseudonyms.text(kinds[name], text).encode(), REFUSED.encode() if refused else b"")

    return [(name, hidden(name, value) if name in kinds else value) for name, value in headers]


def _schemed(value: bytes) -> tuple[bytes, bytes]:
    """Scheme with its blank, and the rest. A first word that is no known scheme may be part of the secret."""
    value = value.strip(_BLANKS)
    scheme, _, rest = value.partition(b" ")
    if scheme.lower() not in _SCHEMES:
        return b"", value
    return scheme + b" ", rest.strip(_BLANKS)


def stated_text(value: bytes) -> str | None:
    """The text of a header that names an account or an organisation, None when it is none."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return text if len(text) <= NAME_LIMIT else None


def _readable(secret: bytes, tokens: bool = False) -> bool:
    """Whether it can be a key or a token. With `tokens`, what has a token's form goes on to be verified, which reads each of its characters."""
    if tokens and secret.startswith(b"eyJ") and secret.count(b".") == 2:
        return len(secret) <= TOKEN_LIMIT and secret.isascii()
    return len(secret) <= (TOKEN_LIMIT if secret.startswith(b"eyJ") else KEY_LIMIT) and not secret.translate(None, _PLAIN)


def _bearer(value: bytes) -> bytes:
    value = value.strip(_BLANKS)
    if value[:7].lower() == b"bearer ":
        return value[7:].strip(_BLANKS)
    if not value or value.lower() == b"bearer":
        return b""
    raise Unidentified("The authorization header has another scheme than Bearer.")


def _hint(names: list[bytes], tokens: bool) -> str:
    ways = ["`authorization: Bearer KEY`" if name == AUTHORIZATION else f"`{name.decode()}: KEY`" for name in names]
    if tokens:
        ways.append("`authorization: Bearer TOKEN`")
    return f"No credential was given: send {' or '.join(ways)}." if ways else "No credential was given."
