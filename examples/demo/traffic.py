"""The traffic of the demonstration, driven with the real openai SDK: people with questions, one in a hurry, and many accounts with one script."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from openai import APIStatusError, AsyncOpenAI, RateLimitError

from examples.demo.stage import Account

MODEL = "tiny-1"
QUESTIONS = (
    "My basil leaves turn yellow from below. What should I look at first?",
    "Could you make this sentence kinder: the report was late again?",
    "What is a good order for seeing the harbour, the market and the museum in one day?",
    "Why does my loop print the last item twice?",
    "Suggest three names for a grey cat who likes boxes.",
    "How do I tell my landlord that the heating hums at night?",
    "Is it worth sharpening a bread knife, and how?",
    "Explain compound interest to a twelve-year-old.",
)
TEMPLATE = (
    "You are an expert tutor. Solve the exercise below. First write down every step of your reasoning inside <think> tags, then give the final answer "
    "inside <answer> tags. Exercise {number}: a barge carries {load} crates and unloads {part} of them at each of {stops} piers. How many are left?"
)


@dataclass
class Result:
    """What a client saw: answers, refusals, and the first refusal itself."""

    served: int = 0
    refused: int = 0
    seconds: float = 0.0
    refusal: RateLimitError | None = field(default=None, repr=False)


async def people(address: str, crowd: list[Account], tick: Callable[[], None]) -> Result:
    """Everybody asks a few questions and reads the answers, half of them as they stream in."""
    return _sum(await asyncio.gather(*(_person(address, one, tick) for one in crowd)))


async def hurried(address: str, one: Account, requests: int, tick: Callable[[], None]) -> Result:
    """A batch job of one honest account, far above its quota, that leaves the waiting to the SDK's own retries."""
    result, started = Result(), time.monotonic()
    async with _client(address, one, retries=8) as client:
        for number in range(requests):
            await _counted(result, partial(_ask, client, QUESTIONS[number % len(QUESTIONS)]), tick)
    result.seconds = time.monotonic() - started
    return result


async def refused(address: str, one: Account) -> Result:
    """The same without retries, until the first refusal."""
    result = Result()
    async with _client(address, one, retries=0) as client:
        while not result.refused:
            await _counted(result, partial(_ask, client, QUESTIONS[0]), lambda: None)
    return result


async def swarm(address: str, crowd: list[Account], each: int, tick: Callable[[], None]) -> Result:
    """One script behind many accounts: it takes the next account for the next exercise and does not wait."""
    chance = random.Random(7)
    result = Result()
    clients = [_client(address, one, retries=0) for one in crowd]
    lanes = asyncio.Semaphore(16)

    async def exercise(number: int) -> None:
        prompt = TEMPLATE.format(number=number, load=chance.randint(90, 900), part=chance.choice(("a third", "half", "an eighth")), stops=chance.randint(2, 7))
        async with lanes:
            await _counted(result, partial(_ask, clients[number % len(clients)], prompt), tick)

    await asyncio.gather(*(exercise(number) for number in range(each * len(crowd))))
    await asyncio.gather(*(client.close() for client in clients))
    return result


async def _person(address: str, one: Account, tick: Callable[[], None]) -> Result:
    chance = random.Random(one.name)
    result = Result()
    async with _client(address, one, retries=2) as client:
        for question in chance.sample(QUESTIONS, 5):
            ask = _read_along if chance.random() < 0.5 else _ask
            await _counted(result, partial(ask, client, question), tick)
            await asyncio.sleep(chance.uniform(0.3, 1.2))
    return result


async def _counted(result: Result, call: Callable[[], Awaitable[None]], tick: Callable[[], None]) -> None:
    try:
        await call()
        result.served += 1
    except RateLimitError as error:
        result.refused += 1
        result.refusal = result.refusal or error
    except APIStatusError as error:
        raise SystemExit(f"unexpected answer: {error}") from error
    tick()


async def _ask(client: AsyncOpenAI, question: str) -> None:
    await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}], max_tokens=150)


async def _read_along(client: AsyncOpenAI, question: str) -> None:
    stream = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}], max_tokens=150, stream=True)
    async for _ in stream:
        pass


def _client(address: str, one: Account, *, retries: int) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=address, api_key=one.key, max_retries=retries)


def _sum(results: list[Result]) -> Result:
    return Result(sum(one.served for one in results), sum(one.refused for one in results))
