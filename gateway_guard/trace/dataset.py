"""A folder of Parquet files by day, as engines for data sets read it: `TABLE/day=2027-01-04/SOURCE-1.parquet`, days in UTC.

Files are named after what they were made of, so exporting the same log again replaces its files and adds nothing. Each appears whole or not at all.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway_guard.errors import UsageError
from gateway_guard.trace.output import Output
from gateway_guard.trace.parquet import Columns, Sheet

# Around midnight rows of two days come in turns.
OPEN = 2


class _Part(NamedTuple):
    output: Output
    sheet: Sheet


class Dataset:
    """One table under `folder`, out of one source, whose `name` tells its files apart from others'."""

    def __init__(self, folder: Path, name: str, columns: Columns, about: Mapping[str, str]) -> None:
        self.files = 0
        self._folder = folder
        self._name = name
        self._columns = columns
        self._about = about
        self._open: dict[int, _Part] = {}
        self._begun: Counter[int] = Counter()

    def add(self, at: float, row: tuple[Any, ...]) -> None:
        """Add a row to the day of `at`."""
        day = int(at // 86_400.0)
        part = self._open.get(day) or self._begin(day)
        part.sheet.add(row)

    def finish(self) -> None:
        """Complete all files."""
        for day in list(self._open):
            self._end(day)

    def set_aside(self) -> list[str]:
        """It ends early: complete days stay, and the names are given of what is kept of the others."""
        for part in self._open.values():
            part.sheet.salvage()
            part.output.set_aside()
        return [part.output.aside for part in self._open.values()]

    def _begin(self, day: int) -> _Part:
        if len(self._open) >= OPEN:
            self._end(min(self._open))
        self._begun[day] += 1
        date = datetime.date(1970, 1, 1) + datetime.timedelta(days=day)
        place = self._folder / f"day={date.isoformat()}" / f"{self._name}-{self._begun[day]}.parquet"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{place.parent}: cannot be made: {error.strerror}") from None
        output = Output(place)
        part = self._open[day] = _Part(output, Sheet(output, self._columns, self._about))
        return part

    def _end(self, day: int) -> None:
        part = self._open[day]
        part.sheet.finish()
        part.output.commit()
        del self._open[day]
        self.files += 1
