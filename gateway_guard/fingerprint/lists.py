"""The editable lists that fingerprints need, as values. Reading them from files is the policy's business."""

from __future__ import annotations

import msgspec


class ElicitFamily(msgspec.Struct, frozen=True):
    """One family of elicitation: it is found where at least `needs` kinds of cue stand close together, the first kind among them.

    A cue is plain text, no pattern: words in a row, compared without case, punctuation and digits.
    """

    name: str
    bit: int
    needs: int
    cues: tuple[tuple[str, ...], ...]


class Lists(msgspec.Struct, frozen=True):
    """`prompts` what harnesses send for everybody, whole or in sentences · `blocks` tags between which they put text · `tools` names of theirs ·
    `families` of elicitation · `proxy_headers` names that proxies add or change (a trailing `*` stands for any ending) ·
    `ja4` name of the header that holds the TLS fingerprint.
    """

    prompts: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    families: tuple[ElicitFamily, ...] = ()
    proxy_headers: tuple[str, ...] = ()
    ja4: str = ""
