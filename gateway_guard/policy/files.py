"""Policy files as one tree: reading, and `include`.

A file may build on others: `include: base.yaml`, or a list. Each is read in order on top of the one before, the including file last, and every part
keeps the place it came from. So a problem is reported in the file that has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway_guard.policy import text
from gateway_guard.policy.tree import Place, Problem, Tree, merged

LARGEST = 2**20  # bytes in a file
MOST_FILES = 16
LONGEST_CHAIN = 8  # includes within includes


class Files:
    """What was read: `files` in order and the `problems` found on the way. `whole` is false when a part is missing, and judging the rest makes no sense."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.problems: list[Problem] = []
        self.whole = True

    def read(self, path: Path, *, said: Place | None = None, chain: tuple[Path, ...] = ()) -> Tree:
        """The tree of a file with its includes under it. `said`: where another file names it; `chain`: the files that lead here."""
        place, real = said or (str(path), 0), path.resolve()
        if real in chain:
            return self._missing(place, f"`{path}` is included by itself, by way of {len(chain) - chain.index(real)} file(s); take one `include` out")
        if len(chain) >= LONGEST_CHAIN or len(self.files) >= MOST_FILES:
            return self._missing(place, f"too many files; at most {LONGEST_CHAIN} within each other and {MOST_FILES} in all")
        try:
            content = self._fetch(path)
        except OSError as error:
            return self._missing(place, f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}")
        self.files.append(path)
        if isinstance(content, Problem):
            return self._missing(content.at, content.says)
        own = self.parse(content, str(path))
        return self._built_on(own, path, (*chain, real))

    def parse(self, content: str, name: str) -> Tree:
        """The tree of a text, `include` left as it stands."""
        try:
            return text.read(content, name, self.problems)
        except text.Unreadable as error:
            return self._missing(error.problem.at, error.problem.says)

    def _fetch(self, path: Path) -> str | Problem:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST + 1)
        if len(raw) > LARGEST:
            return Problem((str(path), 0), f"larger than {LARGEST // 2**20} MiB; split it with `include`")
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return Problem((str(path), raw[: error.start].count(b"\n") + 1), "not UTF-8; save the file as UTF-8 text")

    def _built_on(self, own: Tree, path: Path, chain: tuple[Path, ...]) -> Tree:
        said = own.value.pop("include", None)
        whole: Tree | None = None
        for name in self._included(said) if said else ():
            part = self.read(path.parent / name.value, said=name.at, chain=chain)
            whole = part if whole is None else merged(whole, part)
        return own if whole is None else merged(whole, own)

    def _included(self, said: Tree) -> Iterator[Tree]:
        for name in said.value if isinstance(said.value, list) else [said]:
            if not isinstance(name.value, str) or not name.value:
                self._missing(name.at, "`include` must name a file or a list of files; for example `include: base.yaml`")
            elif Path(name.value).is_absolute():
                self._missing(name.at, f"`include` takes paths relative to this file, and `{name.value}` is absolute")
            else:
                yield name

    def _missing(self, at: Place, says: str) -> Tree:
        self.whole = False
        self.problems.append(Problem(at, says))
        return Tree({}, at)
