"""How each API says that a field does not fit. Clients, and people who search for the message, know these sentences."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway_guard.errors import UnreadableBody

Path = tuple[str | int, ...]

KINDS = {dict: "an object", list: "an array", str: "a string", int: "an integer", float: "a number", bool: "a boolean", type(None): "null"}


class Words(NamedTuple):
    """An API's sentences, as templates, and how it writes the way to a field: `messages[0].content` or `messages.0.content`.

    A path is given as keys and indices from the top; it is written out only when something is refused.
    """

    absent: str
    type: str
    low: str
    high: str
    stray: str
    brackets: bool

    def missing(self, path: Path) -> UnreadableBody:
        """A field that must be there is not."""
        return self._refusal(self.absent, path)

    def wrong_type(self, path: Path, expected: str, value: Any) -> UnreadableBody:
        """A value of another type than `expected` ("string", "array of objects")."""
        return self._refusal(self.type, path, expected=expected, a="an" if expected[0] in "aio" else "a", got=kind(value))

    def too_small(self, path: Path, least: int, value: Any) -> UnreadableBody:
        """A number below `least`."""
        return self._refusal(self.low, path, bound=least, got=brief(value))

    def too_large(self, path: Path, most: int, value: Any) -> UnreadableBody:
        """A number above `most`."""
        return self._refusal(self.high, path, bound=most, got=brief(value))

    def unknown(self, path: Path, meant: str) -> UnreadableBody:
        """A name that some servers would take for the field `meant`."""
        return self._refusal(self.stray, path, meant=meant)

    def _refusal(self, template: str, path: Path, **values: object) -> UnreadableBody:
        where = self._written(path)
        return UnreadableBody(template.format(where=where, **values), param=where)

    def _written(self, path: Path) -> str:
        steps = (f".{printable(step)}" if isinstance(step, str) else f"[{step}]" if self.brackets else f".{step}" for step in path)
        return "".join(steps).removeprefix(".")


OPENAI = Words(
    absent="Missing required parameter: '{where}'.",
    type="Invalid type for '{where}': expected {a} {expected}, but got {got} instead.",
    low="Invalid '{where}': integer below minimum value. Expected a value >= {bound}, but got {got} instead.",
    high="Invalid '{where}': integer above maximum value. Expected a value <= {bound}, but got {got} instead.",
    stray="Unknown parameter: '{where}'. Did you mean '{meant}'?",
    brackets=True,
)

ANTHROPIC = Words(
    absent="{where}: Field required",
    type="{where}: Input should be a valid {expected}, but it is {got}",
    low="{where}: Input should be greater than or equal to {bound}, but it is {got}",
    high="{where}: Input should be less than or equal to {bound}, but it is {got}",
    stray="{where}: Extra inputs are not permitted. Did you mean '{meant}'?",
    brackets=False,
)


def kind(value: Any) -> str:
    """The JSON type of `value`, with its article."""
    return KINDS.get(type(value), "something else")


def brief(value: float) -> str:
    """A number, short enough to be repeated: Python refuses to write an integer of many thousand digits."""
    return str(value) if isinstance(value, float) or abs(value) < 10**18 else "a number of more than 18 digits"


def printable(name: str) -> str:
    """A caller's key, fit for a message, a header and a log line."""
    shown = ascii(name[:65])[1:-1]
    return shown if len(shown) <= 64 else shown[:61] + "..."
