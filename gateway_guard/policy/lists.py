"""Reads the editable lists (policies/harness.yaml, policies/elicits.yaml) that fingerprints need.

As strict as for policies: unknown and doubled keys, empty lists and cues without letters are refused, all of them at once, each with file and line.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gateway_guard.errors import PolicyError
from gateway_guard.fingerprint.lists import ElicitFamily, Lists
from gateway_guard.policy import text
from gateway_guard.policy.tree import Problem, Tree

_TEXTS = ("prompts", "blocks", "tools", "proxy_headers")
_FIELDS = (*_TEXTS, "families", "ja4")
_FAMILY = ("bit", "needs", "cues")
_MAPPING = f"a file of lists is a mapping of {', '.join(_FIELDS)}"
BITS = 63


def load_lists(paths: Iterable[Path]) -> Lists:
    """The lists of all files together, or PolicyError."""
    reader = _Reader()
    for path in paths:
        tree = reader.file(path)
        if tree:
            reader.fields(tree)
    if reader.problems:
        raise PolicyError([str(problem) for problem in reader.problems])
    return Lists(**{name: tuple(dict.fromkeys(reader.texts[name])) for name in _TEXTS}, families=tuple(reader.families), ja4=reader.ja4)


class _Reader:
    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.texts: dict[str, list[str]] = {name: [] for name in _TEXTS}
        self.families: list[ElicitFamily] = []
        self.ja4 = ""

    def file(self, path: Path) -> Tree | None:
        try:
            return text.read(path.read_text("utf-8"), str(path), self.problems)
        except OSError as error:
            self._wrong((str(path), 0), error.strerror or "cannot be read")
        except UnicodeDecodeError:
            self._wrong((str(path), 0), "is not UTF-8 text")
        except text.Unreadable as error:
            # The reader of policies calls whatever it reads a policy.
            self._wrong(error.problem.at, _MAPPING if error.problem.says.startswith("a policy is a mapping") else error.problem.says)
        return None

    def fields(self, tree: Tree) -> None:
        for name, child in tree.value.items():
            if name in _TEXTS:
                self.texts[name] += self._strings(child, name)
            elif name == "families":
                for title, spec in self._mapping(child, name):
                    self._family(title, spec)
            elif name == "ja4":
                self.ja4 = self._string(child, name).lower()
            else:
                self._wrong(child.at, f"`{name}` is unknown; {_MAPPING}")

    def _family(self, name: str, spec: Tree) -> None:
        fields = dict(self._mapping(spec, name))
        for title, child in fields.items():
            if title not in _FAMILY:
                self._wrong(child.at, f"`{name}.{title}` is unknown; a family has {', '.join(_FAMILY)}")
        if missing := [title for title in _FAMILY if title not in fields]:
            self._wrong(spec.at, f"`{name}` lacks {', '.join(missing)}")
            return
        kinds = [self._strings(kind, f"{name}.{title}") for title, kind in self._mapping(fields["cues"], f"{name}.cues")]
        needs = self._number(fields["needs"], f"{name}.needs", 1, max(1, len(kinds)))
        bit = self._number(fields["bit"], f"{name}.bit", 0, BITS - 1)
        if any(1 << bit == other.bit or name == other.name for other in self.families):
            self._wrong(fields["bit"].at, f"`{name}`: bit {bit} or the name is taken by another family")
        self.families.append(ElicitFamily(name, 1 << bit, needs, tuple(map(tuple, kinds))))

    def _mapping(self, tree: Tree, name: str) -> list[tuple[str, Tree]]:
        if not isinstance(tree.value, dict) or not tree.value:
            self._wrong(tree.at, f"`{name}` must be a mapping, not empty")
            return []
        return list(tree.value.items())

    def _strings(self, tree: Tree, name: str) -> list[str]:
        if not isinstance(tree.value, list) or not tree.value:
            self._wrong(tree.at, f"`{name}` must be a list of texts, not empty")
            return []
        return [self._string(item, name) for item in tree.value]

    def _string(self, tree: Tree, name: str) -> str:
        if not isinstance(tree.value, str):
            self._wrong(tree.at, f"`{name}` must hold texts; put what looks like something else in quotes")
            return ""
        if not any(sign.isalpha() for sign in tree.value):
            self._wrong(tree.at, f"`{name}` holds a text without letters, with which nothing is ever compared")
        return tree.value

    def _number(self, tree: Tree, name: str, least: int, most: int) -> int:
        if type(tree.value) is not int or not least <= tree.value <= most:
            self._wrong(tree.at, f"`{name}` must be a whole number from {least} to {most}")
            return least
        return tree.value

    def _wrong(self, at: tuple[str, int], says: str) -> None:
        self.problems.append(Problem(at, says))
