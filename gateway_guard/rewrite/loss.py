"""What an answer loses: a profile, as the rewriters of answers take it."""

from __future__ import annotations

from typing import NamedTuple

from gateway_guard.facts import Asks
from gateway_guard.policy.profile import Profile

LOGPROBS = int(Asks.LOGPROBS)
JSON = int(Asks.JSON)


class Loss(NamedTuple):
    """`hide` all reasoning · `trace` reasoning but for what the API calls a summary · `logprobs` · `detail` of the usage · `length` in characters of a
    text, 0 = whole · `step` that counts are rounded up to, 0 = exact.
    """

    hide: bool = False
    trace: bool = False
    logprobs: bool = False
    detail: bool = False
    length: int = 0
    step: int = 0

    @property
    def texts(self) -> bool:
        """Whether what the model says has to be looked through."""
        return self.trace or self.length > 0

    @property
    def usage(self) -> bool:
        """Whether counts change."""
        return self.detail or self.step > 0


NONE = Loss()


def loss_of(profile: Profile, asks: int) -> Loss:
    """What an answer to a request that asks for this (`Asks` bits) loses. JSON that ends with a sentence is no JSON: it keeps its length."""
    hide = "reasoning" in profile.strip
    return Loss(
        hide=hide,
        trace=hide or profile.summary,
        logprobs="logprobs" in profile.strip,
        detail="usage" in profile.strip,
        length=0 if asks & JSON else profile.length or 0,
        step=profile.round_usage or 0,
    )


def told(loss: Loss, asks: int) -> list[str]:
    """The same, as the notice tells it."""
    said = {
        "reasoning": loss.hide,
        "reasoning=summary": loss.trace and not loss.hide,
        "logprobs": loss.logprobs and bool(asks & LOGPROBS),
        "usage": loss.detail,
        f"usage=~{loss.step}": loss.step,
        f"length={loss.length}": loss.length,
    }
    return [name for name, is_so in said.items() if is_so]
