"""Programs and their contradictions."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.fingerprint.client import ClientShape, Headers, program, single
from gateway_guard.fingerprint.keyed import Keyed
from gateway_guard.fingerprint.oddities import ODDITIES, names, odd

KEYED = Keyed(b"0123456789abcdef")
SHAPE = ClientShape(["x-forwarded-*", "via", "cf-*"], KEYED)


def headers(*pairs: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in (pair.split(": ", 1) for pair in pairs)]


STAINLESS = (
    "x-stainless-lang: python",
    "x-stainless-package-version: 2.14.0",
    "x-stainless-os: Linux",
    "x-stainless-arch: x64",
    "x-stainless-runtime: CPython",
    "x-stainless-runtime-version: 3.12.3",
)
OPENAI = headers("accept: application/json", "user-agent: OpenAI/Python 2.14.0", *STAINLESS, "authorization: Bearer k", "x-stainless-retry-count: 0")
ANTHROPIC = headers("accept: application/json", "user-agent: Anthropic/Python 2.14.0", *STAINLESS, "x-api-key: k", "anthropic-version: 2023-06-01")
NODE = headers(
    "user-agent: OpenAI/JS 6.2.0",
    "x-stainless-retry-count: 1",
    "x-stainless-lang: js",
    "x-stainless-package-version: 6.2.0",
    "x-stainless-os: MacOS",
    "x-stainless-arch: arm64",
    "x-stainless-runtime: node",
    "x-stainless-runtime-version: v22.12.0",
    "authorization: Bearer k",
)
GO = headers(
    "user-agent: OpenAI/Go 3.18.0",
    "x-stainless-arch: arm64",
    "x-stainless-lang: go",
    "x-stainless-os: Linux",
    "x-stainless-package-version: 3.18.0",
    "x-stainless-runtime: go",
    "x-stainless-runtime-version: go1.25.1",
)
DOTNET = headers("user-agent: OpenAI/2.8.0 (.NET 9.0.10; Linux)", "authorization: Bearer k")
CHROME = headers(
    'sec-ch-ua-platform: "Windows"',
    "user-agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    'sec-ch-ua: "Google Chrome";v="141", "Chromium";v="141", "Not.A/Brand";v="99"',
    "sec-fetch-mode: cors",
    "accept-language: en-GB",
)
CLAUDE = headers("user-agent: claude-cli/2.1.9 (external, cli)", "x-app: cli", "anthropic-version: 2023-06-01", "anthropic-beta: x")
CODEX = headers("user-agent: codex_cli_rs/0.98.0 (Ubuntu 24.4.0; x86_64) xterm", "originator: codex_cli_rs")
CURL = headers("user-agent: curl/8.5.0", "accept: */*")
PYPY = [(name, b"PyPy" if name == b"x-stainless-runtime" else value) for name, value in OPENAI]
EDGE = headers(
    "x-stainless-lang: js",
    "x-stainless-package-version: 6.2.0",
    "x-stainless-os: Unknown",
    "x-stainless-arch: other:vercel",
    "x-stainless-runtime: edge",
    "x-stainless-runtime-version: v20.0.0",
)
HONEST = {
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "node": NODE,
    "go": GO,
    "dotnet": DOTNET,
    "chrome": CHROME,
    "claude": CLAUDE,
    "codex": CODEX,
    "curl": CURL,
    "pypy": PYPY,
    "edge": EDGE,
}


def oddities(found: Headers, ja4: bytes = b"") -> tuple[str, ...]:
    values = single(found)
    return names(odd(found, values, program(values), ja4))


def changed(base: Headers, name: str, value: str) -> list[tuple[bytes, bytes]]:
    return [(key, value.encode() if key == name.encode() else old) for key, old in base]


def without(base: Headers, *gone: str) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in base if not any(key.decode().startswith(name) for name in gone)]


@pytest.mark.parametrize("name", HONEST)
def test_real_programs_do_not_contradict_themselves(name: str) -> None:
    assert oddities(HONEST[name]) == ()


class Case(NamedTuple):
    name: str
    headers: Headers


CASES = [
    Case("language", changed(NODE, "user-agent", "OpenAI/Python 6.2.0")),
    Case("version", changed(OPENAI, "user-agent", "OpenAI/Python 1.2.3")),
    Case("bare", without(OPENAI, "x-stainless")),
    Case("partial", without(OPENAI, "x-stainless-arch")),
    Case("order", [OPENAI[0], OPENAI[1], OPENAI[4], OPENAI[2], OPENAI[3], *OPENAI[5:]]),
    Case("vendor", [*OPENAI, (b"anthropic-version", b"2023-06-01")]),
    Case("vendor", without(ANTHROPIC, "anthropic-version")),
    Case("vendor", [*ANTHROPIC, (b"openai-organization", b"org-1")]),
    Case("runtime", changed(OPENAI, "x-stainless-runtime", "node")),
    Case("runtime", changed(NODE, "x-stainless-runtime-version", "22.12.0")),
    Case("runtime", changed(OPENAI, "x-stainless-runtime-version", "v3.12.3")),
    Case("machine", changed(OPENAI, "x-stainless-os", "Darwin")),
    Case("machine", changed(OPENAI, "x-stainless-arch", "x86_64")),
    Case("browser", without(CHROME, "sec-fetch", "accept-language")),
    Case("platform", changed(CHROME, "sec-ch-ua-platform", '"macOS"')),
    Case("brand", changed(CHROME, "sec-ch-ua", '"Chromium";v="120"')),
    Case("retry", changed(OPENAI, "x-stainless-retry-count", "none")),
    Case("retry", changed(OPENAI, "x-stainless-retry-count", "-1")),
    Case("harness", without(CLAUDE, "x-app")),
    Case("harness", without(CODEX, "originator")),
    Case("twice", [*OPENAI, (b"user-agent", b"curl/8.5.0")]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}")
def test_each_contradiction_is_seen_and_nothing_else(case: Case) -> None:
    assert oddities(case.headers) == (case.name,)


@pytest.mark.parametrize(
    ("base", "ja4", "expected"),
    [
        (OPENAI, b"t13d1812h1_85036bcba153_375ca2c5e164", ()),
        (OPENAI, b"t13d1516h2_8daaf6152771_02713d6af862", ("tls",)),
        (CURL, b"t13d1715h2_5b57614c22b0_3d5424432f57", ("tls",)),
        (CHROME, b"t13d1516h2_8daaf6152771_02713d6af862", ()),
        (CHROME, b"t13d181100_85036bcba153_375ca2c5e164", ("tls",)),
        (CHROME, b"t10d1516h2_8daaf6152771_02713d6af862", ("tls",)),
        (CHROME, b"nonsense", ()),
    ],
)
def test_the_handshake_is_compared_with_the_program(base: Headers, ja4: bytes, expected: tuple[str, ...]) -> None:
    assert oddities([*base, (b"x-edge-tls", ja4)], b"x-edge-tls") == expected


def test_every_bit_has_a_name_and_a_meaning() -> None:
    assert {case.name for case in CASES} | {"tls"} == {name for name, _ in ODDITIES}
    assert len({name for name, _ in ODDITIES}) == len(ODDITIES) < 63
    assert names((1 << len(ODDITIES)) - 1) == tuple(name for name, _ in ODDITIES)


header_names = st.sampled_from([name for base in HONEST.values() for name, _ in base]) | st.binary(max_size=20)


@given(st.lists(st.tuples(header_names, st.binary(max_size=80)), max_size=100))
def test_no_header_is_an_error(found: list[tuple[bytes, bytes]]) -> None:
    values = single(found)
    what = program(values)
    assert 0 <= odd(found, values, what, b"user-agent") < 1 << len(ODDITIES)
    assert 1 <= SHAPE.client(found, what) < 2**63
    assert 0 <= SHAPE.version(what) < 2**63


def client(found: Headers) -> int:
    return SHAPE.client(found, program(single(found)))


@pytest.mark.parametrize(
    "other",
    [
        changed(OPENAI, "authorization", "Bearer another"),
        changed(OPENAI, "user-agent", "OpenAI/Python 1.9.0"),
        [(b"host", b"a"), *OPENAI, (b"content-length", b"77"), (b"connection", b"close")],
        [*OPENAI, (b"via", b"1.1 x"), (b"x-forwarded-for", b"192.0.2.1"), (b"cf-ray", b"1")],
    ],
)
def test_the_same_client(other: Headers) -> None:
    """Keys, versions and what proxies add do not make another client."""
    assert client(other) == client(OPENAI)


@pytest.mark.parametrize("other", [OPENAI[::-1], OPENAI[1:], [*OPENAI, (b"x-title", b"x")], changed(OPENAI, "user-agent", "curl/8.5.0")])
def test_another_client(other: Headers) -> None:
    assert client(other) != client(OPENAI)


@pytest.mark.parametrize(
    ("agent", "family", "version"),
    [
        ("OpenAI/Python 2.14.0", "openai/python", "2.14.0"),
        ("python-requests/2.34.2", "python-requests", "2.34.2"),
        ("Python/3.11 aiohttp/3.12.15", "python aiohttp", "3.11"),
        ("OpenAI/2.8.0 (.NET 9.0.10; Linux)", "openai", "2.8.0"),
        ("Faraday v2.13.1", "faraday", "2.13.1"),
        ("n8n", "n8n", ""),
        ("claude-cli/2.1.9 (external, cli)", "claude-cli", "2.1.9"),
        ("got (https://github.com/sindresorhus/got)", "got", ""),
        (CHROME[1][1].decode(), "mozilla applewebkit chrome safari", "141.0.0.0"),
        ("", "", ""),
        ("/// ((( 1", "", "1"),
    ],
)
def test_programs(agent: str, family: str, version: str) -> None:
    assert program({b"user-agent": agent.encode()})[:2] == (family, version)


def test_a_program_on_top_of_an_sdk_has_both_versions() -> None:
    assert program(single(changed(NODE, "user-agent", "Cline/3.41.0"))).version == "3.41.0 6.2.0"
    assert program(single(NODE)).version == "6.2.0"
