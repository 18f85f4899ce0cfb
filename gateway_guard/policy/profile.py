"""How a degraded answer is poorer, what it is marked with, and what happens to the opaque state that answers carry: three sections of a policy file."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway_guard.policy.strict import Rules, Share

Sampled = Literal["temperature", "top_p", "top_k", "min_p", "seed", "logit_bias", "frequency_penalty", "presence_penalty", "repetition_penalty"]

# RFC 9110: a field name is a token; a value that ends a line would begin a header of its own.
_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,254}[\x21-\x7e])?")
# Names that say who asks, or where a message ends, or that the guard writes itself.
_TAKEN = re.compile(
    r"authorization|x-api-key|api-key|cookie|host|accept-encoding|content-.*|transfer-encoding|connection|expect|forwarded|via|te|trailer|upgrade|x-forwarded-.*|proxy-.*|x-gateway-guard-.*"
)


class Hint(Rules):
    """A header for the inference server: antidistillation sampling, a watermark. The caller's own header of that name is taken away."""

    header: str
    value: str

    @model_validator(mode="after")
    def _sendable(self) -> Self:
        if not _TOKEN.fullmatch(self.header) or _TAKEN.fullmatch(self.header):
            raise ValueError(f"`{self.header[:64]}` cannot be a hint: give a header of the server's own, in lower case, for example `x-antidistillation`")
        if not _VALUE.fullmatch(self.value):
            raise ValueError("the hint's value must be 1 to 256 printable characters without spaces at its ends")
        return self


class Sampling(Rules):
    """What the caller may not choose (`remove`), and what is chosen for it."""

    remove: list[Sampled] = []
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.remove and not self.chosen():
            raise ValueError("changes nothing: give `remove`, `temperature`, `top_p` or `top_k`")
        both = [name for name in self.chosen() if name in self.remove]
        if both:
            raise ValueError(f"`{both[0]}` is both removed and set; choose one")
        return self

    def chosen(self) -> dict[str, float]:
        """The values that are set."""
        return {name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(self, name)) is not None}


class Profile(Rules):
    """How a degraded answer is poorer, never wrong.

    Of the request: `max_tokens` caps the answer · `effort` is the most reasoning effort · `summary` asks for a summary of the reasoning in place of the
    trace · `models` swaps models, by pattern · `sampling` · `hint`, a header for the inference server. Of the request and the answer: `strip` takes away
    `logprobs`, `choices` (one answer only), `reasoning`, `usage` (its details). Of the answer: `length` in characters, then the sentence ends
    it · `round_usage` rounds counts up to a multiple. `marks`: `habits` of writing and a decoy among the `tools`, drawn for each cluster (`provenance`).
    `notice`: a header says so; without it only from a cluster confidence of `silent_from` on.
    """

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    strip: list[Literal["logprobs", "choices", "reasoning", "usage"]] = []
    effort: Literal["none", "minimal", "low", "medium"] | None = None
    summary: bool = False
    models: dict[str, str] = {}
    sampling: Sampling | None = None
    hint: Hint | None = None
    length: Annotated[int, Field(ge=40)] | None = None
    round_usage: Annotated[int, Field(ge=2)] | None = None
    marks: list[Literal["habits", "tools"]] = []
    notice: bool = True
    silent_from: Share | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.model_dump(exclude={"notice", "silent_from"}) == _NOTHING:
            raise ValueError("changes nothing: give `max_tokens`, `strip` or another way of being poorer")
        if self.summary and "reasoning" in self.strip:
            raise ValueError("`summary` shows a summary of the reasoning and `strip: [reasoning]` hides it; choose one")
        if self.notice and self.silent_from is not None:
            raise ValueError("`silent_from` has no effect while `notice` is true; say `notice: false`")
        if not self.notice and self.silent_from is None:
            raise ValueError("degrading without a word takes a confidence: give `silent_from`, for example 0.99, or leave `notice` true")
        return self


class ProvenanceRules(Rules):
    """What `marks` of profiles are drawn with: `key_file`, made when there is none yet; without it a key derived from the installation's own.

    `confidence` in the cluster from which its answers are marked.
    """

    key_file: str | None = None
    confidence: Share = 0.95


class BindingRules(Rules):
    """Opaque reasoning state (signatures, encrypted reasoning) that leaves with an answer is bound `to` the account, or to its organisation.

    `conversation`: and to the conversation's first turn. `foreign`: what comes back bound to another, or altered, is refused or only recorded.
    `unbound`: what comes back without a binding is accepted, recorded or refused.
    """

    to: Literal["off", "account", "org"] = "off"
    conversation: bool = False
    foreign: Literal["refuse", "record"] = "refuse"
    unbound: Literal["accept", "record", "refuse"] = "accept"


_NOTHING: dict[str, object] = {
    "max_tokens": None, "strip": [], "effort": None, "summary": False, "models": {}, "sampling": None, "hint": None, "length": None,
    "round_usage": None, "marks": []
}  # fmt: skip
