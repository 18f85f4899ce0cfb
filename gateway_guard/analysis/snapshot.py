"""What the analyst cuts and a conclusion follows from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway_guard.analysis.calibration import Calibration
from gateway_guard.analysis.journal import Journal
from gateway_guard.analysis.profile import Profiles, fold
from gateway_guard.analysis.settings import Settings
from gateway_guard.view import View


@dataclass(slots=True)
class Snapshot:
    """All that a view follows from. Nothing in it changes; `folded` is worked out once, by whoever asks first."""

    at: float
    profiles: Profiles
    journals: tuple[Journal, ...]
    names: Sequence[str]
    count: int
    before: View
    settings: Settings
    calibration: Calibration
    _folded: Profiles | None = field(default=None, repr=False)

    def folded(self) -> Profiles:
        """The profiles with all events up to the cut."""
        if self._folded is None:
            profiles = self.profiles
            for journal in self.journals:
                profiles = fold(profiles, journal, self.settings)
            self._folded = profiles
        return self._folded
