"""Text from strangers, made safe to keep and to show."""

from __future__ import annotations

# Characters of a reason that are kept.
LONGEST = 1000
_MARKUP = frozenset("<>&\\")


def escaped(text: str, longest: int = LONGEST) -> str:
    """At most `longest` characters, with everything escaped (as in JSON) that a terminal, a page or a log could take for something else than text."""
    return "".join(char if char.isprintable() and char not in _MARKUP else _escape(char) for char in text[:longest])


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
