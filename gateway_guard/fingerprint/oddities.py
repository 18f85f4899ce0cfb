"""Contradictions in what a client says of itself.

Equal headers are cheap to copy; the copier's slips remain. Each bit below is something that the real program never sends, as far as is publicly known.
A proxy on the way may still cause one, so a single bit is a hint and no more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping

from gateway_guard.fingerprint.client import MOST, Headers, Program

Values = Mapping[bytes, bytes]

_X = b"x-stainless-"
_ALWAYS = tuple(_X + name for name in (b"lang", b"package-version", b"os", b"arch", b"runtime", b"runtime-version"))
_SDK = re.compile(r"^(?:Async)?(OpenAI|Anthropic)/(Python|JS|Go|Java|Kotlin|Ruby) (\S{1,40})")
_LANGS = {"Python": b"python", "JS": b"js", "Go": b"go", "Java": b"java", "Kotlin": b"kotlin", "Ruby": b"ruby"}
_RUNTIMES = {
    b"cpython": b"python",
    b"pypy": b"python",
    b"node": b"js",
    b"deno": b"js",
    b"bun": b"js",
    b"edge": b"js",
    b"go": b"go",
    b"ruby": b"ruby",
    b"jruby": b"ruby",
}
_VERSIONS = {b"cpython": re.compile(rb"\d+\.\d+[\w.+]*$|unknown$"), b"node": re.compile(rb"v\d+\.\d+\.\d+|unknown$"), b"go": re.compile(rb"go\d|devel")}
_SYSTEMS = (b"MacOS", b"Linux", b"Windows", b"FreeBSD", b"OpenBSD", b"iOS", b"Android", b"Unknown", b"Other:", b"other:")
_UA_SYSTEMS = ((b"Windows", "Windows"), (b"macOS", "Mac"), (b"Android", "Android"), (b"Linux", "Linux"), (b"Chrome OS", "CrOS"))
_SINGLE = frozenset({b"user-agent", b"authorization", b"x-api-key", b"content-type", b"content-length", b"host", b"anthropic-version", *_ALWAYS})
# The headers whose values are looked at.
READ = frozenset({b"user-agent", b"sec-ch-ua", b"sec-ch-ua-platform", _X + b"retry-count", *_ALWAYS})
_JA4 = re.compile(rb"([tqd])(\d\d|s\d|d\d|00)([di])(\d\d)(\d\d)([0-9a-z]{2})_", re.IGNORECASE)
_SCRIPTS = ("python", "openai/", "anthropic/", "go-http", "curl", "node", "axios", "java", "okhttp", "aiohttp", "httpx", "litellm", "langchain")


class Client:
    """What the checks look at."""

    def __init__(self, headers: Headers, values: Values, what: Program, ja4: bytes) -> None:
        self.headers = headers[:MOST]
        self.values = values
        self.family = what.family
        self.agent = what.agent
        self.sdk = _SDK.match(what.agent)
        self.lang = values.get(_X + b"lang", b"")
        self.ja4 = _JA4.match(ja4)
        self.browser = what.agent.startswith("Mozilla/5.0 (") and ("Chrome/" in what.agent or "Firefox/" in what.agent or "Safari/" in what.agent)


def _language(client: Client) -> bool:
    return bool(client.sdk and client.lang and client.lang.lower() != _LANGS[client.sdk[2]])


def _version(client: Client) -> bool:
    told = client.values.get(_X + b"package-version")
    return bool(client.sdk and told and told != client.sdk[3].encode("latin-1", "replace"))


def _bare(client: Client) -> bool:
    return bool(client.sdk) and not any(name in client.values for name in _ALWAYS)


def _partial(client: Client) -> bool:
    present = sum(name in client.values for name in _ALWAYS)
    return 0 < present < len(_ALWAYS)


def _order(client: Client) -> bool:
    sent = [name for name, _ in client.headers if name in _ALWAYS]
    return len(sent) == len(_ALWAYS) and tuple(sent) != _ALWAYS and sent != sorted(sent)


def _vendor(client: Client) -> bool:
    if client.sdk is None:
        return False
    anthropic = b"anthropic-version" in client.values
    return anthropic if client.sdk[1] == "OpenAI" else not anthropic or b"openai-organization" in client.values or b"openai-project" in client.values


def _runtime(client: Client) -> bool:
    runtime, lang = client.values.get(_X + b"runtime", b"").lower(), client.lang.lower()
    if runtime in _RUNTIMES and lang in _LANGS.values() and _RUNTIMES[runtime] != lang:
        return True
    form, version = _VERSIONS.get(runtime), client.values.get(_X + b"runtime-version", b"")
    return bool(form and version and not form.match(version))


def _machine(client: Client) -> bool:
    system, arch = client.values.get(_X + b"os", b""), client.values.get(_X + b"arch", b"")
    if system and not system.startswith(_SYSTEMS):
        return True
    return bool(arch) and not arch.startswith((b"x32", b"x64", b"arm", b"unknown", b"other:", b"Other:", b"386", b"amd64"))


def _browser(client: Client) -> bool:
    return client.browser and b"accept-language" not in client.values and not any(name.startswith(b"sec-fetch-") for name, _ in client.headers)


def _platform(client: Client) -> bool:
    told = client.values.get(b"sec-ch-ua-platform", b"").strip(b'"')
    return client.browser and any(told == name and sign not in client.agent for name, sign in _UA_SYSTEMS)


def _brand(client: Client) -> bool:
    chrome = re.search(r"Chrome/(\d+)", client.agent)
    brands = re.findall(rb'Chromium";v="(\d+)', client.values.get(b"sec-ch-ua", b"")[:256])
    return bool(chrome and brands) and chrome is not None and chrome[1].encode() not in brands


def _retry(client: Client) -> bool:
    told = client.values.get(_X + b"retry-count")
    return told is not None and not (told.isdigit() and len(told) < 3)


def _harness(client: Client) -> bool:
    if client.family == "claude-cli":
        return b"x-app" not in client.values or b"anthropic-version" not in client.values
    return client.family == "codex_cli_rs" and b"originator" not in client.values


def _twice(client: Client) -> bool:
    return any(count > 1 for name, count in Counter(name for name, _ in client.headers).items() if name in _SINGLE)


def _ja4(client: Client) -> bool:
    if client.ja4 is None:
        return False
    _, tls, _, ciphers, extensions, alpn = client.ja4.groups()
    if client.browser:
        return tls < b"12" or alpn not in (b"h1", b"h2", b"h3")
    like_a_browser = alpn in (b"h2", b"h3") and ciphers in (b"15", b"17") and b"14" <= extensions <= b"18"
    return like_a_browser and client.family.startswith(_SCRIPTS)


_CHECKS: tuple[tuple[str, str, Callable[[Client], bool]], ...] = (
    ("language", "the SDK that the user-agent names is not written in the language that x-stainless-lang tells", _language),
    ("version", "user-agent and x-stainless-package-version tell different versions", _version),
    ("bare", "the user-agent is an SDK's, but none of the headers is there that this SDK always sends", _bare),
    ("partial", "some of the headers that an SDK always sends together are missing", _partial),
    ("order", "the SDK's own headers come in an order in which no version sends them", _order),
    ("vendor", "headers of one vendor's API under the user-agent of the other's SDK", _vendor),
    ("runtime", "a runtime, or a form of its version, that the language does not have", _runtime),
    ("machine", "an operating system or processor that the SDK has no name for", _machine),
    ("browser", "a browser's user-agent with neither accept-language nor sec-fetch headers", _browser),
    ("platform", "sec-ch-ua-platform and user-agent tell different operating systems", _platform),
    ("brand", "sec-ch-ua and user-agent tell different browser versions", _brand),
    ("retry", "a retry count that is no small number", _retry),
    ("harness", "a coding program's user-agent without the headers that it always sends", _harness),
    ("twice", "a header twice that has one value", _twice),
    ("tls", "the TLS handshake is not the program's that the user-agent names", _ja4),
)

ODDITIES: tuple[tuple[str, str], ...] = tuple((name, meaning) for name, meaning, _ in _CHECKS)


def odd(headers: Headers, values: Values, what: Program, ja4: bytes = b"") -> int:
    """Bit set of contradictions: bit n is `ODDITIES[n]`. `ja4` names the header, set by the edge, that holds the TLS fingerprint."""
    client = Client(headers, values, what, values.get(ja4, b"") if ja4 else b"")
    return sum(1 << bit for bit, (_, _, check) in enumerate(_CHECKS) if check(client))


def names(bits: int) -> tuple[str, ...]:
    """The names of the bits that are set."""
    return tuple(name for bit, (name, _) in enumerate(ODDITIES) if bits >> bit & 1)
