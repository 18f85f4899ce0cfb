"""Builds an Identifier from a policy's rules: reads the files that they name, fetches nothing yet."""

from __future__ import annotations

from pathlib import Path

import httpx

from gateway_guard.identity.directory import CallableDirectory, CsvDirectory, Lookup
from gateway_guard.identity.identify import Identifier
from gateway_guard.identity.jwks import Jwks
from gateway_guard.identity.jwt import Tokens
from gateway_guard.identity.keys import FixedKey, KeySource
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.policy.model import IdentityRules, JwtRules


def identifier(
    rules: IdentityRules, pseudonyms: Pseudonyms, *, folder: Path, client: httpx.AsyncClient | None = None, function: Lookup | None = None
) -> Identifier:
    """The identifier of a policy in `folder`, to which its paths are relative. `client` fetches key sets; a replay gives none."""
    directory = CsvDirectory.load(folder / rules.directory, pseudonyms) if rules.directory else None
    tokens = Tokens(rules.jwt, _keys(rules.jwt, folder, client), pseudonyms) if rules.jwt else None
    asked = CallableDirectory(function, pseudonyms) if function else None
    return Identifier(rules, pseudonyms, directory, tokens, asked)


def _keys(rules: JwtRules, folder: Path, client: httpx.AsyncClient | None) -> KeySource:
    if rules.jwks is not None:
        return Jwks(rules.jwks, rules.algorithms, client, refresh=rules.refresh)
    return FixedKey.load(folder / (rules.key_file or ""), rules.algorithms)
