"""Reads the editable lists (policies/harness.yaml, policies/elicits.yaml) that fingerprints need.

Strict: unknown keys, doubled keys, empty lists and cues without letters are refused, all of them at once, each with file and line.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from gateway_guard.errors import PolicyError
from gateway_guard.fingerprint.lists import ElicitFamily, Lists

_TEXTS = ("prompts", "blocks", "tools", "proxy_headers")
_FAMILY = ("bit", "needs", "cues")
BITS = 63
# The one in C is several times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_lists(paths: Iterable[Path]) -> Lists:
    """The lists of all files together, or PolicyError."""
    reader = _Reader()
    for path in paths:
        reader.file(path)
    if reader.problems:
        raise PolicyError(reader.problems)
    return Lists(**{name: tuple(dict.fromkeys(reader.texts[name])) for name in _TEXTS}, families=tuple(reader.families), ja4=reader.ja4)


class _Reader:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.texts: dict[str, list[str]] = {name: [] for name in _TEXTS}
        self.families: list[ElicitFamily] = []
        self.ja4 = ""
        self._path = Path()

    def file(self, path: Path) -> None:
        self._path = path
        try:
            root = yaml.compose(path.read_text("utf-8"), Loader=_LOADER)
        except OSError as error:
            self.problems.append(f"{path}: {error.strerror or error}")
        except UnicodeDecodeError:
            self.problems.append(f"{path}: is not UTF-8 text")
        except yaml.YAMLError as error:
            self.problems.append(_broken(path, error))
        else:
            self._root(root)

    def _root(self, root: yaml.Node | None) -> None:
        for key, name, value in self._pairs(root, "lists"):
            if name in _TEXTS:
                self.texts[name] += self._strings(value, name)
            elif name == "families":
                for _, title, spec in self._pairs(value, name):
                    self._family(title, spec)
            elif name == "ja4":
                self.ja4 = self._string(value, name).lower()
            else:
                self._wrong(key, f"unknown list `{name}`; known are {', '.join((*_TEXTS, 'families', 'ja4'))}")

    def _family(self, name: str, node: yaml.Node) -> None:
        fields = {title: (key, value) for key, title, value in self._pairs(node, name)}
        for title, (key, _) in fields.items():
            if title not in _FAMILY:
                self._wrong(key, f"`{name}.{title}` is unknown; a family has {', '.join(_FAMILY)}")
        if missing := [title for title in _FAMILY if title not in fields]:
            self._wrong(node, f"`{name}` lacks {', '.join(missing)}")
            return
        kinds = [self._strings(value, f"{name}.{title}") for _, title, value in self._pairs(fields["cues"][1], f"{name}.cues")]
        needs = self._number(fields["needs"][1], f"{name}.needs", 1, max(1, len(kinds)))
        bit = self._number(fields["bit"][1], f"{name}.bit", 0, BITS - 1)
        if any(1 << bit == other.bit or name == other.name for other in self.families):
            self._wrong(fields["bit"][1], f"`{name}`: bit {bit} or the name is taken by another family")
        self.families.append(ElicitFamily(name, 1 << bit, needs, tuple(map(tuple, kinds))))

    def _pairs(self, node: yaml.Node | None, name: str) -> list[tuple[yaml.Node, str, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, f"`{name}` must be a mapping")
            return []
        pairs = [(key, str(key.value), value) for key, value in node.value]
        seen: set[str] = set()
        for key, title, _ in pairs:
            if title in seen:
                self._wrong(key, f"`{title}` stands twice")
            seen.add(title)
        return pairs

    def _strings(self, node: yaml.Node, name: str) -> list[str]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self._wrong(node, f"`{name}` must be a list of texts, at least one")
            return []
        return [self._string(item, name) for item in node.value]

    def _string(self, node: yaml.Node, name: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str" or not node.value.strip():
            self._wrong(node, f"`{name}` must hold texts; put it in quotes if it is one")
            return ""
        text = str(node.value)
        if not any(sign.isalpha() for sign in text):
            self._wrong(node, f"`{name}` holds a text without letters, which nothing is compared with")
        return text

    def _number(self, node: yaml.Node, name: str, least: int, most: int) -> int:
        if not isinstance(node, yaml.ScalarNode) or not node.value.isdecimal() or not least <= int(node.value) <= most:
            self._wrong(node, f"`{name}` must be a whole number from {least} to {most}")
            return least
        return int(node.value)

    def _wrong(self, node: yaml.Node | None, what: str) -> None:
        line = node.start_mark.line + 1 if node is not None else 1
        self.problems.append(f"{self._path}:{line}: {what}")


def _broken(path: Path, error: yaml.YAMLError) -> str:
    """One line for a file that is no YAML."""
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else f"{path}"
    return f"{where}: {getattr(error, 'problem', None) or 'cannot be read'}"
