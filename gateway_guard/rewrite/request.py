"""Asking the model server for less than the caller did: a shorter answer, without what only a trainer needs. Poorer, never wrong."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from gateway_guard.policy.profile import Profile, Sampling
from gateway_guard.rewrite import effort

Body = dict[str, Any]

# For each dialect: where an answer's length is capped. Of several that are given, a server obeys either, so each is capped.
CAPS: Mapping[str, tuple[str, ...]] = {
    "openai.chat": ("max_completion_tokens", "max_tokens"),
    "openai.responses": ("max_output_tokens",),
    "openai.completions": ("max_tokens",),
    "openai.embeddings": (),
    "anthropic.messages": ("max_tokens",),
}
# Further names are those of open inference servers.
LOGPROBS = ("logprobs", "top_logprobs", "prompt_logprobs", "return_token_ids", "return_tokens_as_token_ids")
CHOICES = ("n", "best_of")
# Which of the values that a profile sets each API has a field for.
SAMPLED: Mapping[str, tuple[str, ...]] = {
    "openai.chat": ("temperature", "top_p", "top_k"),
    "openai.completions": ("temperature", "top_p", "top_k"),
    "openai.responses": ("temperature", "top_p"),
    "openai.embeddings": (),
    "anthropic.messages": ("temperature", "top_p", "top_k"),
}


class Degraded(NamedTuple):
    """The body to send instead, and what was changed, as the notice tells it."""

    body: Body
    changes: tuple[str, ...]


def degrade(dialect: str, body: Body, profile: Profile) -> Degraded:
    """`body` is left as it is; a request that asks for nothing of the kind comes back unchanged."""
    new = dict(body)
    changes = [*_swapped(new, profile.models)]
    if profile.effort is not None:
        changes += effort.lowered(dialect, new, profile.effort)
    if profile.max_tokens is not None:
        changes += _capped(dialect, new, profile.max_tokens)
    for what in profile.strip:
        changes += STRIP[what](dialect, new)
    if profile.summary:
        changes += effort.summarised(dialect, new)
    if profile.sampling is not None:
        changes += _sampled(dialect, new, profile.sampling)
    return Degraded(new, tuple(dict.fromkeys(changes)))


def _swapped(body: Body, models: Mapping[str, str]) -> Iterable[str]:
    """The first pattern that fits."""
    asked = body.get("model")
    for pattern, instead in models.items():
        if isinstance(asked, str) and fnmatch.fnmatchcase(asked, pattern):
            if asked != instead:
                body["model"] = instead
                yield f"model={instead}"
            return


def _capped(dialect: str, body: Body, most: int) -> Iterable[str]:
    names = CAPS[dialect]
    for name in [name for name in names if body.get(name) is not None] or names[:1]:
        asked = body.get(name)
        # The Messages API wants more tokens than the thinking budget: the cap is on what is said beside it.
        room = most + (effort.budget(body) if dialect == "anthropic.messages" else 0)
        if not isinstance(asked, int | float) or asked > room:
            body[name] = room
            yield f"max_tokens={room}"


def _no_logprobs(dialect: str, body: Body) -> Iterable[str]:
    yield from _dropped(body, LOGPROBS, "logprobs")
    listed = body.get("include")
    if isinstance(listed, list):  # the Responses API asks for extras by name
        kept = [item for item in listed if not isinstance(item, str) or "logprobs" not in item]
        if len(kept) < len(listed):
            body["include"] = kept
            yield "logprobs"


def _one_choice(dialect: str, body: Body) -> Iterable[str]:
    return _dropped(body, CHOICES, "n")


def _usage(dialect: str, body: Body) -> Iterable[str]:
    """No API lets the caller choose the detail of what is counted: it is taken from the answer."""
    return ()


def _dropped(body: Body, names: Iterable[str], change: str) -> Iterable[str]:
    # 0 log-probabilities still give the chosen token's.
    for name in names:
        if body.get(name) is not None and body[name] is not False:
            del body[name]
            yield change


def _sampled(dialect: str, body: Body, sampling: Sampling) -> Iterable[str]:
    for name in sampling.remove:
        if body.pop(name, None) is not None:
            yield f"{name}=default"
    for chosen, value in sampling.chosen().items():
        if chosen in SAMPLED[dialect] and body.get(chosen) != value:
            body[chosen] = value
            yield f"{chosen}={value:g}"


STRIP: Mapping[str, Callable[[str, Body], Iterable[str]]] = {
    "logprobs": _no_logprobs,
    "choices": _one_choice,
    "reasoning": effort.hidden,
    "usage": _usage,
}
