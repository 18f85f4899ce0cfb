"""`make demo`: a guarded model server, honest users, a swarm, and a replay of it all, in about a minute."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from examples.demo import ledger, stage, traffic
from examples.demo.screen import Screen

FOLDER = stage.HERE.parent.parent / "demo-output"
PEOPLE = ("amira", "ben", "chidi", "dolores", "emre", "fumiko")
HURRIED = "batch-job"
TESTER = "tester"
SWARM = tuple(f"swarm-{number:02}" for number in range(1, 31))
EACH = 12
BATCH = 12


def main() -> int:
    """Play every act; 0 when the replay decided as the live guard did."""
    screen, started = Screen(), time.monotonic()
    everybody = stage.accounts([*PEOPLE, HURRIED, TESTER, *SWARM])
    screen.title(
        "gateway_guard: a guarded model API, end to end",
        "A small model server runs behind `gateway-guard serve`. Clients use the real openai SDK.\n"
        "The policy gives each account 20 requests and 6,000 tokens a minute, 8 requests at once.",
    )
    stage.prepare(FOLDER, list(everybody.values()))
    with stage.running(FOLDER) as address:
        asyncio.run(_live(screen, address, everybody))
    same = _replayed(screen)
    _what_if(screen)
    screen.say("")
    screen.say(f"Done in {time.monotonic() - started:.0f} seconds. Policy, account list, logs and decisions are in [bold]{_shown(FOLDER)}[/]. Next: README.md.")
    return 0 if same else 1


async def _live(screen: Screen, address: str, everybody: dict[str, stage.Account]) -> None:
    screen.act("Honest users", f"{len(PEOPLE)} people ask five questions each and read the answers, some of them as a stream.")
    with screen.progress(5 * len(PEOPLE)) as tick:
        got = await traffic.people(address, [everybody[name] for name in PEOPLE], tick)
    screen.verdict(good=not got.refused, text=f"{got.served} questions answered, {got.refused} refused.")

    screen.act("One account goes over its quota", "The same client with its retries switched off, to see the refusal itself.")
    got = await traffic.refused(address, everybody[TESTER])
    if got.refusal:
        screen.say(f"{got.served} requests answered, then:")
        screen.refusal(got.refusal)

    screen.act(
        "An honest batch job", f"{BATCH} requests in a row, more than it may send at once. The SDK's own retries do the waiting; there is no code for it."
    )
    with screen.progress(BATCH) as tick:
        got = await traffic.hurried(address, everybody[HURRIED], BATCH, tick)
    screen.verdict(good=not got.refused, text=f"All {got.served} answered in {got.seconds:.0f} seconds: the quota's pace, and no error reached the program.")

    screen.act("A swarm", f"One script with {len(SWARM)} accounts sends {EACH * len(SWARM)} variations of one prompt and collects the answers.")
    with screen.progress(EACH * len(SWARM)) as tick:
        got = await traffic.swarm(address, [everybody[name] for name in SWARM], EACH, tick)
    screen.say(f"{got.served} answered, {got.refused} refused.")


def _replayed(screen: Screen) -> bool:
    screen.act("Record and replay", "The guard recorded every exchange. The recording is now played through the same policy in virtual time.")
    stage.replay(FOLDER, "policy.yaml", "replayed.jsonl")
    live, again = ledger.rows(stage.recorded(FOLDER, "live")), ledger.rows(FOLDER / "replayed.jsonl")
    different = ledger.differences(live, again)
    screen.say(f"live:     {ledger.actions(live.values())}")
    screen.say(f"replayed: {ledger.actions(again.values())}")
    screen.verdict(good=not different, text=f"{len(live) - len(different)} of {len(live)} decisions are identical.")
    return not different


def _what_if(screen: Screen) -> None:
    screen.act("What if?", "The recording once more, through a policy that allows half the requests: who would have been refused?")
    stage.replay(FOLDER, "tighter.yaml", "tighter.jsonl")
    now, tighter = _shares("replayed.jsonl"), _shares("tighter.jsonl")
    heads = ["who", "accounts", "requests", "served", "delayed", "refused", "if tighter"]
    screen.table(heads, [[*share[:6], other.refused] for share, other in zip(now, tighter, strict=True)])
    screen.say("Limits per account slow a swarm down by as much as they hurt everybody else: each of its accounts has a quota of its own.")

    screen.act("Who acts as one?", "Once more, with the analyst: accounts that it finds to be one actor would share one quota.")
    stage.replay(FOLDER, "clusters.yaml", "clusters.jsonl")
    before = {share.group: share.refused for share in now}
    found = [share for share in _shares("clusters.jsonl") if share.clustered]
    for share in found:
        more = share.refused - before[share.group]
        screen.say(f"{share.clustered} of {share.accounts} accounts ({share.group}) were found to act as one; {more} more requests refused.")
    if not found:
        screen.say("Nobody, in one minute of traffic. Days of it are the analyst's measure.")
    screen.say("Without a calibration on honest accounts (`gateway-guard calibrate`), what the analyst finds is recorded and nothing more.")


def _shares(log: str) -> list[ledger.Share]:
    group_of = {**dict.fromkeys(PEOPLE, "honest users"), HURRIED: "batch job", TESTER: "tester", **dict.fromkeys(SWARM, "swarm")}
    return ledger.shares(ledger.rows(FOLDER / log), group_of)


def _shown(path: Path) -> str:
    return f"{path.relative_to(Path.cwd())}/" if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
