"""Reads the header in which a guard asks for a proof. Whatever it says comes from a server: it is bounded, and only a path is taken from it, no host."""

from __future__ import annotations

import re
from typing import NamedTuple, get_args

from gateway_guard.challenge.work import Algorithm, Puzzle

HEADER = "x-gateway-guard-challenge"
LIMIT = 8192
_KIND = re.compile(r"(proof_of_work|step_up)(?=;)", re.ASCII)
_PARAMETER = re.compile(r';\s?([a-z_]{1,32})=(?:"([^"\\]{0,4096})"|([A-Za-z0-9_.-]{1,64}))', re.ASCII)
_PATH = re.compile(r"/(?!/)[A-Za-z0-9._~/-]*", re.ASCII)
_WORK = re.compile(r"[1-9][0-9]{0,19}", re.ASCII)
_ALGORITHMS: dict[str, Algorithm] = {name: name for name in get_args(Algorithm)}


class Instructions(NamedTuple):
    """A `puzzle` to solve and the path to post the proof to; or a `url` where a person has to go."""

    puzzle: Puzzle | None = None
    path: str = ""
    url: str = ""


def instructions(header: str) -> Instructions | None:
    """What the header asks for; None when it is not understood."""
    kind = _KIND.match(header) if len(header) <= LIMIT else None
    if kind is None:
        return None
    given = {name: text or plain for name, text, plain in _PARAMETER.findall(header)}
    if kind[1] == "step_up":
        url = given.get("url", "")
        return Instructions(url=url) if url.startswith(("https://", "http://")) else None
    algorithm, work, path = _ALGORITHMS.get(given.get("algorithm", "")), given.get("work", ""), given.get("path", "")
    if algorithm is None or not _WORK.fullmatch(work) or not _PATH.fullmatch(path):
        return None
    return Instructions(Puzzle(given.get("token", ""), algorithm, int(work)), path)
