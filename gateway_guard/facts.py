"""What is known of one request once its text is gone, and the events that the guard's life consists of.

Every value is frozen; times are float seconds since the Unix epoch (UTC); identifiers are keyed hashes.
`at` is the only clock below the edge: live traffic and a replay hand over the same numbers, so they decide alike.
"""

from __future__ import annotations

import enum
from typing import Literal

import msgspec


class Asks(enum.IntFlag):
    """What a request asks for beside an answer."""

    NONE = 0
    STREAM = 1
    USAGE_IN_STREAM = 2
    TOOLS = 4
    LOGPROBS = 8
    REASONING = 16
    IMAGES = 32
    AUDIO = 64
    JSON = 128


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who asks. `account` and `org` are keyed hashes (hex); `payment`, `email_domain`, `signup` keyed 64-bit ones, 0 = unknown."""

    account: str
    org: str = ""
    plan: str = ""
    created_at: float = 0.0
    payment: int = 0
    email_domain: int = 0
    signup: int = 0
    anonymous: bool = False


class Fingerprint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The shape of a client and of a prompt: integers only, keyed, no text can be had back from it.

    `client` header names, order and program family · `version` the program's version · `shape` the parameters that were set ·
    `system` system prompt (known harness prompts stripped: 0 when nothing of its own is left) · `tools` tool definitions · `template` masked template of the
    current turn · `sketch` near-duplicate sketch of it (sorted, at most 16) · `thread` hashes of the conversation's
    prefixes, oldest first, each including an assistant turn · `blobs` hashes of opaque reasoning blobs and signatures ·
    `elicits` bit set of elicitation families · `odd` bit set of client contradictions · `length` characters of the current turn ·
    `templates` sentences near either end of the current turn (at most 8; an instruction that goes out with ever new material recurs here) ·
    `rules` sentences near either end of the system prompt's own text, in the same domain as `templates`.
    """

    client: int = 0
    version: int = 0
    shape: int = 0
    system: int = 0
    tools: int = 0
    template: int = 0
    sketch: tuple[int, ...] = ()
    thread: tuple[int, ...] = ()
    blobs: tuple[int, ...] = ()
    elicits: int = 0
    odd: int = 0
    length: int = 0
    templates: tuple[int, ...] = ()
    rules: tuple[int, ...] = ()


BLANK = Fingerprint()


# Opaque state that came back: the account's own (or none), without a binding, bound to another account or conversation, or altered.
STATES = ("own", "unbound", "foreign", "altered")


class RequestFacts(msgspec.Struct, frozen=True, gc=False):
    """One request as the gate and the analyst see it.

    `network` keyed hash of the client's address prefix (0 = unknown) · `input_tokens` estimate of the prompt ·
    `ask_tokens` the output maximum that the caller set, over all choices (0 = none set) · `turns` messages in the conversation ·
    `passes` ids of the rungs whose challenge the account has met, as long as that counts ·
    `state` what is wrong with opaque state that came back (see `STATES`; 0 = nothing, or nobody looks).
    """

    id: str
    at: float
    identity: Identity
    dialect: str
    model: str = ""
    fingerprint: Fingerprint = BLANK
    network: int = 0
    input_tokens: int = 0
    ask_tokens: int = 0
    asks: int = 0
    turns: int = 0
    passes: tuple[str, ...] = ()
    state: int = 0


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What a request used, in model tokens. `estimated`: counted by the guard, not told by the server. `output` includes `reasoning`."""

    input: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: bool = False


# An embedding has input only.
_SILENT = "openai.embeddings"


def imputed(facts: RequestFacts, output: int) -> Usage:
    """What a request would have used, as far as can be told: what the caller asked for at most, else `output` tokens."""
    expected = 0 if facts.dialect == _SILENT else facts.ask_tokens or output
    return Usage(facts.input_tokens, expected, estimated=True)


Ending = Literal["done", "left", "raised", "refused"]


class Seen(msgspec.Struct, frozen=True, tag="seen", gc=False):
    """A request arrived and was decided."""

    facts: RequestFacts
    action: str = "allow"
    cluster: str = ""


class Done(msgspec.Struct, frozen=True, tag="done", gc=False):
    """A request ended: its usage, the server's status, and how it ended."""

    id: str
    at: float
    account: str
    usage: Usage
    status: int = 200
    ending: Ending = "done"


class Cut(msgspec.Struct, frozen=True, tag="cut"):
    """The analyst took its snapshot: every event before this one is in the view `view`, none after it."""

    at: float
    view: int


class Adopted(msgspec.Struct, frozen=True, tag="adopted"):
    """The gate began to use the view `view`."""

    at: float
    view: int


Event = Seen | Done | Cut | Adopted
