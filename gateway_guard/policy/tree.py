"""A file's content as a tree whose every part knows its file and line."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

Place: TypeAlias = tuple[str, int]
Steps: TypeAlias = tuple[str | int, ...]

LONGEST = 400  # characters of a message


class Problem(msgspec.Struct, frozen=True):
    """A mistake and where it is; line 0 stands for the file as a whole."""

    at: Place
    says: str

    def __str__(self) -> str:
        file, line = self.at
        # What a file holds is shown to a person: no line breaks or escape sequences of its own.
        says = "".join(char if char.isprintable() else "?" for char in self.says[:LONGEST])
        return f"{file}:{line}: {says}" if line else f"{file}: {says}"


class Tree(msgspec.Struct):
    """A value and where it stands: a scalar, a list of trees or a dict of trees. An entry of a dict stands where its key does."""

    value: Any
    at: Place

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def find(self, steps: Steps) -> Tree:
        """The part that `steps` lead to, or the nearest above it that exists."""
        here = self
        for step in steps:
            inside: Any = here.value
            if not isinstance(inside, dict | list):
                break
            try:
                here = inside[step]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                break
        return here

    def name(self, steps: Steps) -> str:
        """`steps` as a person would say them: `ladder[deny].at`; an item of a list goes by its `id`, else by its number."""
        here, said = self, ""
        for depth, step in enumerate(steps):
            here = self.find(steps[: depth + 1])
            if isinstance(step, int):
                ident = here.value.get("id") if isinstance(here.value, dict) else None
                said += f"[{ident.value}]" if ident is not None else f"[#{step + 1}]"
            else:
                said += f".{step}" if said else step
        return said


def merged(under: Tree, over: Tree) -> Tree:
    """`over` on top of `under`: mappings key by key, anything else replaced; an empty value takes out what is under it."""
    if not isinstance(under.value, dict) or not isinstance(over.value, dict):
        return over
    entries = dict(under.value)
    for key, child in over.value.items():
        if key not in entries:
            entries[key] = child
        elif child.value is None:
            del entries[key]
        else:
            entries[key] = merged(entries[key], child)
    return Tree(entries, over.at)
