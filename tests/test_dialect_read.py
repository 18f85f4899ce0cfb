"""What a request body may not be, in the words of each API; and what the parts of a good one add up to."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_guard.dialects import DIALECTS, get
from gateway_guard.dialects.fields import AUDIO_TOKENS, FILE_TOKENS, IMAGE_TOKENS
from gateway_guard.errors import UnreadableBody, UsageError
from gateway_guard.facts import Asks
from gateway_guard.policy.model import GuardRules
from gateway_guard.reading import Reading

CHAT, RESPONSES, COMPLETIONS, EMBEDDINGS, MESSAGES = "openai.chat", "openai.responses", "openai.completions", "openai.embeddings", "anthropic.messages"
GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    RESPONSES: {"model": "m", "input": "hi"},
    COMPLETIONS: {"model": "m", "prompt": "hi"},
    EMBEDDINGS: {"model": "m", "input": "hi"},
    MESSAGES: {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
}
NOTHING = object()


def read(name: str, **fields: Any) -> Reading:
    body = {**GOOD[name], **fields}
    return DIALECTS[name].read({key: value for key, value in body.items() if value is not NOTHING})


def refused(name: str, **fields: Any) -> UnreadableBody:
    with pytest.raises(UnreadableBody) as caught:
        read(name, **fields)
    return caught.value


def said(role: str, *parts: Any) -> list[dict[str, Any]]:
    return [{"role": role, "content": list(parts)}]


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    (CHAT, {"model": NOTHING}, "model", "Missing required parameter: 'model'."),
    (CHAT, {"model": None}, "model", "Missing required parameter: 'model'."),
    (CHAT, {"model": 4}, "model", "Invalid type for 'model': expected a string, but got an integer instead."),
    (CHAT, {"model": ["m"]}, "model", "Invalid type for 'model': expected a string, but got an array instead."),
    (CHAT, {"messages": NOTHING}, "messages", "Missing required parameter: 'messages'."),
    (CHAT, {"messages": "hi"}, "messages", "Invalid type for 'messages': expected an array of objects, but got a string instead."),
    (CHAT, {"messages": {"0": {}}}, "messages", "Invalid type for 'messages': expected an array of objects, but got an object instead."),
    (CHAT, {"messages": ["hi"]}, "messages[0]", "Invalid type for 'messages[0]': expected an object, but got a string instead."),
    (CHAT, {"messages": [{"content": "hi"}]}, "messages[0].role", "Missing required parameter: 'messages[0].role'."),
    (
        CHAT,
        {"messages": [{"role": 1, "content": "hi"}]},
        "messages[0].role",
        "Invalid type for 'messages[0].role': expected a string, but got an integer instead.",
    ),
    (
        CHAT,
        {"messages": [{"role": "user", "content": {"text": "hi"}}]},
        "messages[0].content",
        "Invalid type for 'messages[0].content': expected a string or array of objects, but got an object instead.",
    ),
    (
        CHAT,
        {"messages": said("user", 7)},
        "messages[0].content[0]",
        "Invalid type for 'messages[0].content[0]': expected an object, but got an integer instead.",
    ),
    (CHAT, {"messages": said("user", {"type": "text"})}, "messages[0].content[0].text", "Missing required parameter: 'messages[0].content[0].text'."),
    (
        CHAT,
        {"messages": said("user", {"type": "text", "text": True})},
        "messages[0].content[0].text",
        "Invalid type for 'messages[0].content[0].text': expected a string, but got a boolean instead.",
    ),
    (CHAT, {"tools": {"a": 1}}, "tools", "Invalid type for 'tools': expected an array of objects, but got an object instead."),
    (CHAT, {"functions": "f"}, "functions", "Invalid type for 'functions': expected an array of objects, but got a string instead."),
    (CHAT, {"stream": "true"}, "stream", "Invalid type for 'stream': expected a boolean, but got a string instead."),
    (CHAT, {"stream": 1}, "stream", "Invalid type for 'stream': expected a boolean, but got an integer instead."),
    (CHAT, {"max_tokens": "10"}, "max_tokens", "Invalid type for 'max_tokens': expected an integer, but got a string instead."),
    (CHAT, {"max_tokens": True}, "max_tokens", "Invalid type for 'max_tokens': expected an integer, but got a boolean instead."),
    (CHAT, {"max_tokens": 1.5}, "max_tokens", "Invalid type for 'max_tokens': expected an integer, but got a number instead."),
    (CHAT, {"max_tokens": float("inf")}, "max_tokens", "Invalid type for 'max_tokens': expected an integer, but got a number instead."),
    (CHAT, {"max_tokens": -1}, "max_tokens", "Invalid 'max_tokens': integer below minimum value. Expected a value >= 0, but got -1 instead."),
    (CHAT, {"max_tokens": 1e300}, "max_tokens", "Invalid 'max_tokens': integer above maximum value. Expected a value <= 2147483647, but got 1e+300 instead."),
    (
        CHAT,
        {"max_completion_tokens": 10**5000},
        "max_completion_tokens",
        "Invalid 'max_completion_tokens': integer above maximum value. Expected a value <= 2147483647, but got a number of more than 18 digits instead.",
    ),
    (CHAT, {"max_tokens": [1]}, "max_tokens", "Invalid type for 'max_tokens': expected an integer, but got an array instead."),
    (CHAT, {"n": 0}, "n", "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead."),
    (CHAT, {"n": 129}, "n", "Invalid 'n': integer above maximum value. Expected a value <= 128, but got 129 instead."),
    (CHAT, {"n": "2"}, "n", "Invalid type for 'n': expected an integer, but got a string instead."),
    (CHAT, {"Model": "dear"}, "Model", "Unknown parameter: 'Model'. Did you mean 'model'?"),
    (CHAT, {"meſſages": []}, "me\\u017f\\u017fages", "Unknown parameter: 'me\\u017f\\u017fages'. Did you mean 'messages'?"),
    (CHAT, {"MAX_TOKENS": 1}, "MAX_TOKENS", "Unknown parameter: 'MAX_TOKENS'. Did you mean 'max_tokens'?"),
    (
        CHAT,
        {"messages": [{"role": "user", "content": "hi", "Content": "other"}]},
        "messages[0].Content",
        "Unknown parameter: 'messages[0].Content'. Did you mean 'content'?",
    ),
    (CHAT, {"messages": [{"role": "user", "CONTENT": "other"}]}, "messages[0].CONTENT", "Unknown parameter: 'messages[0].CONTENT'. Did you mean 'content'?"),
    (
        CHAT,
        {"messages": said("user", {"text": "hi", "Text": "other"})},
        "messages[0].content[0].Text",
        "Unknown parameter: 'messages[0].content[0].Text'. Did you mean 'text'?",
    ),
    (RESPONSES, {"input": 5}, "input", "Invalid type for 'input': expected a string or array of objects, but got an integer instead."),
    (RESPONSES, {"input": ["hi"]}, "input[0]", "Invalid type for 'input[0]': expected an object, but got a string instead."),
    (RESPONSES, {"input": [{}]}, "input[0].type", "Missing required parameter: 'input[0].type'."),
    (RESPONSES, {"input": [{"type": 5}]}, "input[0].type", "Invalid type for 'input[0].type': expected a string, but got an integer instead."),
    (RESPONSES, {"input": [{"role": 5}]}, "input[0].role", "Invalid type for 'input[0].role': expected a string, but got an integer instead."),
    (RESPONSES, {"input": [{"role": "user", "Content": "x"}]}, "input[0].Content", "Unknown parameter: 'input[0].Content'. Did you mean 'content'?"),
    (RESPONSES, {"instructions": ["a"]}, "instructions", "Invalid type for 'instructions': expected a string, but got an array instead."),
    (
        RESPONSES,
        {"max_output_tokens": -5},
        "max_output_tokens",
        "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 0, but got -5 instead.",
    ),
    (
        COMPLETIONS,
        {"prompt": 5},
        "prompt",
        "Invalid type for 'prompt': expected a string, array of strings, array of integers or array of arrays of integers, but got an integer instead.",
    ),
    (
        COMPLETIONS,
        {"prompt": [1, "a"]},
        "prompt",
        "Invalid type for 'prompt': expected a string, array of strings, array of integers or array of arrays of integers, but got an array instead.",
    ),
    (COMPLETIONS, {"prompt": [[1], ["a"]]}, "prompt[1]", "Invalid type for 'prompt[1]': expected an array of integers, but got an array instead."),
    (COMPLETIONS, {"best_of": 1000}, "best_of", "Invalid 'best_of': integer above maximum value. Expected a value <= 128, but got 1000 instead."),
    (COMPLETIONS, {"suffix": 1}, "suffix", "Invalid type for 'suffix': expected a string, but got an integer instead."),
    (EMBEDDINGS, {"input": NOTHING}, "input", "Missing required parameter: 'input'."),
    (
        EMBEDDINGS,
        {"input": [True]},
        "input",
        "Invalid type for 'input': expected a string, array of strings, array of integers or array of arrays of integers, but got an array instead.",
    ),
    (MESSAGES, {"model": NOTHING}, "model", "model: Field required"),
    (MESSAGES, {"model": 1}, "model", "model: Input should be a valid string, but it is an integer"),
    (MESSAGES, {"messages": NOTHING}, "messages", "messages: Field required"),
    (MESSAGES, {"messages": [3]}, "messages.0", "messages.0: Input should be a valid object, but it is an integer"),
    (MESSAGES, {"messages": said("user", {"type": "text"})}, "messages.0.content.0.text", "messages.0.content.0.text: Field required"),
    (MESSAGES, {"system": 5}, "system", "system: Input should be a valid string or array of objects, but it is an integer"),
    (MESSAGES, {"system": [{"type": "text", "text": 1}]}, "system.0.text", "system.0.text: Input should be a valid string, but it is an integer"),
    (MESSAGES, {"max_tokens": "5"}, "max_tokens", "max_tokens: Input should be a valid integer, but it is a string"),
    (MESSAGES, {"max_tokens": -1}, "max_tokens", "max_tokens: Input should be greater than or equal to 0, but it is -1"),
    (MESSAGES, {"max_tokens": 2**40}, "max_tokens", "max_tokens: Input should be less than or equal to 2147483647, but it is 1099511627776"),
    (MESSAGES, {"System": "x"}, "System", "System: Extra inputs are not permitted. Did you mean 'system'?"),
]


@pytest.mark.parametrize(("name", "fields", "param", "message"), REFUSED, ids=[f"{name}-{param}-{at}" for at, (name, _, param, _) in enumerate(REFUSED)])
def test_what_is_decided_on_must_be_of_its_type(name: str, fields: dict[str, Any], param: str, message: str) -> None:
    error = refused(name, **fields)
    assert (error.param, error.message) == (param, message)
    assert error.status == 400


@pytest.mark.parametrize("name", GOOD)
def test_what_is_not_decided_on_passes(name: str) -> None:
    """New parameters come every month, and strange values of the others are the server's to refuse."""
    odd = {"temperature": "hot", "new_thing": {"A": 1}, "NewThing": 1, "metadata": [1], "user": 5, "stop": {}, "seed": 1e300}
    assert read(name, **odd) == read(name, **dict.fromkeys(odd, 0))


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    "field", ["tools", "stream", "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "system", "instructions", "suffix"]
)
def test_null_is_as_if_it_were_not_there(name: str, field: str) -> None:
    plain = read(name, **{field: NOTHING})
    null = read(name, **{field: None})
    assert (null.ask_tokens, null.tools, null.streaming, null.system, null.asks) == (plain.ask_tokens, None, False, "", 0)


@pytest.mark.parametrize(
    ("name", "fields", "ask"),
    [
        (CHAT, {}, 0),
        (CHAT, {"max_tokens": 100.0}, 100),
        (CHAT, {"max_tokens": 7, "max_completion_tokens": 9}, 9),
        (CHAT, {"max_tokens": 9, "max_completion_tokens": 7, "n": 3}, 27),
        (CHAT, {"n": 5}, 0),
        (CHAT, {"max_tokens": 2**31 - 1, "n": 128}, 128 * (2**31 - 1)),
        (RESPONSES, {"max_output_tokens": 16, "n": 3}, 16),
        (COMPLETIONS, {"max_tokens": 10, "n": 2, "best_of": 5}, 50),
        (COMPLETIONS, {"max_tokens": 10, "n": 5, "best_of": 2}, 50),
        (COMPLETIONS, {"max_tokens": 10, "prompt": ["a", "b", "c"]}, 30),
        (COMPLETIONS, {"max_tokens": 10, "prompt": [1, 2, 3]}, 10),
        (COMPLETIONS, {"max_tokens": 10, "prompt": NOTHING}, 10),
        (COMPLETIONS, {"max_tokens": 10, "prompt": []}, 0),
        (EMBEDDINGS, {"max_tokens": 10}, 0),
        (MESSAGES, {"max_tokens": NOTHING}, 0),
        (MESSAGES, {"max_tokens": 1024}, 1024),
    ],
)
def test_the_output_maximum_counts_every_choice(name: str, fields: dict[str, Any], ask: int) -> None:
    assert read(name, **fields).ask_tokens == ask


ASKED: list[tuple[str, dict[str, Any], Asks]] = [
    (CHAT, {}, Asks.NONE),
    (CHAT, {"stream": True}, Asks.STREAM),
    (CHAT, {"stream": False, "stream_options": {"include_usage": False}}, Asks.NONE),
    (CHAT, {"stream": True, "stream_options": {"include_usage": True}}, Asks.STREAM | Asks.USAGE_IN_STREAM),
    (CHAT, {"tools": []}, Asks.NONE),
    (CHAT, {"functions": [{"name": "f"}]}, Asks.TOOLS),
    (CHAT, {"logprobs": True}, Asks.LOGPROBS),
    (CHAT, {"logprobs": False, "top_logprobs": 0}, Asks.NONE),
    (CHAT, {"top_logprobs": 2}, Asks.LOGPROBS),
    (CHAT, {"reasoning_effort": "none"}, Asks.NONE),
    (CHAT, {"reasoning_effort": "high"}, Asks.REASONING),
    (CHAT, {"reasoning": {"enabled": False}}, Asks.NONE),
    (CHAT, {"thinking": {"type": "enabled"}}, Asks.REASONING),
    (CHAT, {"response_format": {"type": "text"}}, Asks.NONE),
    (CHAT, {"response_format": {"type": "json_schema"}}, Asks.JSON),
    (CHAT, {"response_format": {"type": ["json_object"]}}, Asks.NONE),
    (CHAT, {"modalities": ["text", "audio"]}, Asks.AUDIO),
    (CHAT, {"modalities": ["text"]}, Asks.NONE),
    (RESPONSES, {"include": ["message.output_text.logprobs"]}, Asks.LOGPROBS),
    (RESPONSES, {"include": "reasoning.encrypted_content"}, Asks.NONE),
    (RESPONSES, {"reasoning": {"effort": "none"}}, Asks.NONE),
    (RESPONSES, {"reasoning": None}, Asks.NONE),
    (RESPONSES, {"text": {"format": {"type": "text"}}}, Asks.NONE),
    (RESPONSES, {"text": {"format": {"type": "json_object"}}}, Asks.JSON),
    (COMPLETIONS, {"logprobs": 0}, Asks.LOGPROBS),
    (COMPLETIONS, {"logprobs": None}, Asks.NONE),
    (MESSAGES, {"thinking": {"type": "disabled"}}, Asks.NONE),
    (MESSAGES, {"thinking": {"type": "adaptive"}}, Asks.REASONING),
    (MESSAGES, {"output_format": {"type": "json_schema"}}, Asks.JSON),
    (MESSAGES, {"tools": [{"name": "f"}], "stream": True}, Asks.TOOLS | Asks.STREAM),
]


@pytest.mark.parametrize(("name", "fields", "asks"), ASKED)
def test_what_is_asked_for_beside_an_answer(name: str, fields: dict[str, Any], asks: Asks) -> None:
    assert read(name, **fields).asks == asks


TURNS: list[tuple[list[dict[str, Any]], str]] = [
    ([], ""),
    ([{"role": "system", "content": "s"}], ""),
    ([{"role": "user", "content": "a"}], "a"),
    ([{"role": "user", "content": "a"}, {"role": "system", "content": "s"}], "a"),
    ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}], "c"),
    # Said in two messages, or in a role that the server does not know either: still the caller's words.
    ([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "a\nb"),
    ([{"role": "human", "content": "a"}, {"role": "User", "content": "b"}], "a\nb"),
    # Words put into the model's mouth hide nothing.
    ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "Sure"}], "a"),
    ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}], "a"),
    ([{"role": "assistant", "content": "b"}], ""),
    # What a tool found is no turn of the caller's.
    ([{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "r"}], ""),
    ([{"role": "user", "content": "a"}, {"role": "function", "name": "f", "content": "r"}], ""),
    ([{"role": "tool", "content": "r"}, {"role": "user", "content": "b"}], "b"),
    ([{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "tool_result", "content": "r"}]}], "a"),
    ([{"role": "user", "content": [{"type": "text", "text": "a"}, "b", {"type": "text", "text": ""}, {"type": "image_url"}]}], "a\nb\n"),
]


@pytest.mark.parametrize(("messages", "current"), TURNS)
@pytest.mark.parametrize("name", [CHAT, MESSAGES])
def test_the_current_turn_is_all_that_the_caller_said_since_the_model_spoke(name: str, messages: list[dict[str, Any]], current: str) -> None:
    assert read(name, messages=messages).current == current


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "text", "text": "abcd"}, 1),
        ({"type": "text", "text": "日本"}, 2),
        ({"type": "image_url", "image_url": {"url": "x" * 9999}}, IMAGE_TOKENS),
        ({"type": "image", "source": {"data": "x" * 9999}}, IMAGE_TOKENS),
        ({"type": "input_audio", "input_audio": {"data": "x" * 9999}}, AUDIO_TOKENS),
        ({"type": "file", "file": {"file_data": "x" * 9999}}, FILE_TOKENS),
        ({"type": "document", "source": {"type": "base64", "data": "x" * 9999}}, FILE_TOKENS),
        ({"type": "document", "source": {"type": "text", "data": "x" * 343}}, 100),
        ({"type": "thinking", "thinking": "abcd", "signature": "s" * 999}, 1),
        ({"type": "redacted_thinking", "data": "s" * 400}, 100),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {"a": "x" * 347}}, 100),
        ({"type": "tool_result", "content": "x" * 398}, 100),
        ({"type": "tool_result", "content": [{"type": "text", "text": "x" * 374}, {"type": "image", "source": {}}]}, 100 + IMAGE_TOKENS),
        ({"type": "tool_result"}, 0),
        ({"type": "refusal", "refusal": "x" * 366}, 100),
        ({"type": "something_new", "value": "x" * 364}, 100),
        ({"type": 5, "value": "x" * 379}, 100),
    ],
)
def test_the_estimate_counts_text_by_its_bytes_and_media_at_a_flat_rate(part: dict[str, Any], tokens: int) -> None:
    assert read(MESSAGES, messages=said("assistant", part)).input_tokens == pytest.approx(tokens, abs=2 if tokens > 50 else 0)


def test_tools_and_system_prompts_and_every_turn_are_in_the_estimate() -> None:
    tools = [{"name": "f", "description": "x" * 367}]
    messages: list[dict[str, Any]] = [{"role": role, "content": "x" * 400} for role in ("system", "user", "assistant", "tool", "user")]
    messages.append({"role": "assistant", "content": "", "reasoning_content": "x" * 398, "tool_calls": [{"function": {"arguments": "x" * 369}}]})
    assert read(CHAT, messages=messages, tools=tools).input_tokens == 800


def test_parameters_are_named_in_the_order_of_the_body() -> None:
    assert DIALECTS[CHAT].read({"b": 1, "messages": [], "a": None, "model": "m"}).parameters == ("b", "messages", "a", "model")


def test_every_dialect_that_a_policy_can_name_is_there() -> None:
    rules = GuardRules()
    assert {path: get(name).path for path, name in rules.paths.items()} == {path: path for path in rules.paths}
    assert set(rules.paths.values()) == set(DIALECTS)
    with pytest.raises(UsageError, match=r"openai\.chat"):
        get("openai.chatt")
