"""`gateway-guard replay`: recorded traffic against a policy, before anybody is refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_guard.cli import live
from gateway_guard.cli.state import StateFile, heed
from gateway_guard.errors import GuardError, TrafficError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from gateway_guard.assembly import Parts
    from gateway_guard.policy.model import Mode, Policy
    from gateway_guard.replay.labels import Label
    from gateway_guard.replay.live import Plan
    from gateway_guard.replay.report import Report
    from gateway_guard.replay.stage import Stage
    from gateway_guard.trace.events import Trace
    from gateway_guard.trace.exchanges import ExchangeLog
    from gateway_guard.trace.export import Source

INTERRUPTED = 130
PAGE_WIDTH = 130
# What a replay makes is short-lived and has no cycles: looking for some after every 700 objects costs a tenth of its time.
COLLECT_AFTER = 50_000


def replay(
    traffic: Annotated[str, typer.Argument(help="An exchange log (.jsonl, also .zst or .gz) or a trace (.ggt); - for standard input.", show_default=False)],
    policy: Annotated[Path, typer.Option(envvar="GATEWAY_GUARD_POLICY", help="The policy file.", show_default=False)],
    accounts: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_DIRECTORY", help="The account directory (accounts.csv).")] = None,
    decisions: Annotated[str, typer.Option(help="Write each decision here (.jsonl, .zst, .gz or .parquet; - for standard output, line by line).")] = "",
    report: Annotated[list[str] | None, typer.Option(help="Write the report here, as a page (.html) or as JSON (.json). May be given twice.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Who really was an actor (CSV: account, kind, actor): for the report alone, no decision sees it.")] = None,
    trace: Annotated[str, typer.Option(help="Write a trace (.ggt) here: no text in it, and faster to replay.")] = "",
    enforce: Annotated[bool | None, typer.Option("--enforce/--shadow", help="Instead of the policy's own mode.", show_default=False)] = None,
    solved: Annotated[str, typer.Option(help="The share of accounts that meet every challenge. Of the others, those do whose recording shows it.")] = "0%",
    state: StateFile = None,
    target: live.Target = "",
    credentials: live.Keys = None,
    speed: live.Speed = 1.0,
    rate: live.Rate = 50.0,
    in_flight: live.InFlight = 100,
    max_requests: live.Most = 10_000,
    timeout: live.Timeout = 60.0,
    allow_host: live.Hosts = None,
    any_host: live.AnyHost = False,
    tolerate: live.Tolerate = "1%",
) -> None:
    """Replay recorded traffic against a policy: who would be touched, by what, and how full the quotas become.

    Nothing is sent anywhere, unless --target names a staging deployment. Time is that of the log, so an hour is played in seconds and twice with the same
    result. Exit code: 0 done, 1 the log could not be used, or answers of the target differ, 2 called wrongly, 130 interrupted (what there was is kept, marked
    as partial).
    """
    reports = report or []
    if target:
        if decisions or trace or labels or any(not name.endswith(".json") for name in reports):
            raise UsageError("--target: its report is JSON (--report NAME.json) and a page in the terminal; leave --decisions, --trace and --labels out")
        wanted = live.Wanted(target, credentials, speed, rate, in_flight, max_requests, timeout, allow_host or [], any_host, _share(tolerate, "--tolerate"))
        plan = live.planned(traffic, wanted)
        stage = open_stage(traffic, policy, accounts, enforce=enforce, solved=_share(solved), speed=speed)
        heed(stage.gate, state, policy)
        _send(stage, plan, reports, wanted.tolerate)
        return
    check_places(traffic, decisions, *reports, trace)
    known = read_labels(labels)
    stage = open_stage(traffic, policy, accounts, enforce=enforce, fingerprints=bool(trace), solved=_share(solved), candidate=bool(decisions))
    heed(stage.gate, state, policy)
    _play(stage, decisions, reports, trace, known)


def _send(stage: Stage, plan: Plan, reports: list[str], tolerate: float) -> None:
    """Send, and tell what came of it."""
    from gateway_guard.cli.replay import INTERRUPTED, console, play  # noqa: PLC0415
    from gateway_guard.replay.answers import encode  # noqa: PLC0415
    from gateway_guard.replay.answers_page import page  # noqa: PLC0415
    from gateway_guard.replay.live import Live  # noqa: PLC0415
    from gateway_guard.trace.output import Output  # noqa: PLC0415

    sending = Live(stage, plan)
    with ExitStack() as stack:
        files = [stack.enter_context(Output(name)) for name in reports]
        ended, seconds = play(stage.source, sending.run)
        if not sending.record.sent and not isinstance(ended, KeyboardInterrupt):
            raise ended if isinstance(ended, GuardError) else TrafficError(sending.nothing())
        found = sending.report(seconds)
        for file in files:
            file.write(encode(found))
    console(err="-" in reports).print(page(found))
    if isinstance(ended, GuardError):
        raise ended
    if ended is not None:
        raise typer.Exit(INTERRUPTED)
    live.judge(sending, found, tolerate)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(replay)


def open_stage(
    traffic: str,
    policy: Path,
    accounts: Path | None,
    *,
    enforce: bool | None = None,
    fingerprints: bool = False,
    analyst: bool = True,
    solved: float = 0.0,
    change: Callable[[Policy], Policy] | None = None,
    candidate: bool = False,
    speed: float = 1.0,
) -> Stage:
    """A replay, ready to run, under the key of this installation."""
    from gateway_guard.identity.pseudonyms import load_key  # noqa: PLC0415 - help must not wait for all of this
    from gateway_guard.replay.stage import set_up  # noqa: PLC0415

    mode: Mode | None = None if enforce is None else "enforce" if enforce else "shadow"
    key = load_key(os.environ, policy.with_name(".gateway-guard.key"))
    stage = set_up(
        traffic,
        policy,
        key,
        accounts=accounts,
        mode=mode,
        fingerprints=fingerprints,
        analyst=analyst,
        solved=solved,
        change=change,
        candidate=candidate,
        speed=speed,
    )
    tell(stage.notes)
    return stage


def open_parts(policy: Path, accounts: Path | None) -> Parts:
    """A guard's parts, under the key of this installation, for a history: exemptions count by its days."""
    from gateway_guard.assembly import assemble  # noqa: PLC0415
    from gateway_guard.identity.pseudonyms import load_key  # noqa: PLC0415

    return assemble(policy, load_key(os.environ, policy.with_name(".gateway-guard.key")), today=None, directory=accounts)


def tell(notes: Iterable[str]) -> None:
    """What to know beforehand."""
    for note in notes:
        typer.echo(f"note: {note}", err=True)


def _share(text: str, option: str = "--solved") -> float:
    from gateway_guard.policy.units import share  # noqa: PLC0415

    try:
        return share(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from None


def check_places(traffic: str, *outputs: str) -> None:
    """Refuse to write two things to one place, or over the traffic."""
    places = [os.path.realpath(name) if name != "-" else name for name in outputs if name]
    if len(set(places)) < len(places):
        raise UsageError("outputs (--decisions, --report, --trace) must go to different places")
    if traffic != "-" and os.path.realpath(traffic) in places:
        raise UsageError(f"{traffic}: is the traffic, and would be written over: choose another name")


def read_labels(path: Path | None) -> dict[str, Label] | None:
    """The labels in a file, if there is one."""
    from gateway_guard.replay.labels import load  # noqa: PLC0415

    return None if path is None else load(path)


def written(report: Report, name: str) -> bytes:
    """The report in the form that the file's name asks for."""
    if name.endswith((".html", ".htm")):
        from gateway_guard.replay.html.render import render  # noqa: PLC0415

        return render(report)
    from gateway_guard.replay.report import encode  # noqa: PLC0415

    return encode(report)


def _play(stage: Stage, decisions: str, reports: list[str], trace: str, labels: dict[str, Label] | None) -> None:
    from gateway_guard.replay.page import page  # noqa: PLC0415
    from gateway_guard.replay.session import Outputs, Session  # noqa: PLC0415
    from gateway_guard.trace.output import Output  # noqa: PLC0415

    session = Session(stage, labels)
    with ExitStack() as stack:
        stack.callback(stage.source.close)
        files = [stack.enter_context(Output(name)) for name in reports]
        ended, seconds = play(stage.source, lambda tick: session.run(Outputs(decisions, trace), tick))
        if isinstance(ended, GuardError) and not session.tally.first:
            raise ended  # before anything was played there is nothing to tell
        result = session.report(seconds)
        for file in files:
            file.write(written(result, file.name))
    for kept in session.kept:
        typer.echo(f"kept as far as it goes: {kept}", err=True)
    console(err="-" in (decisions, *reports)).print(page(result))
    if isinstance(ended, GuardError):
        raise ended
    raise typer.Exit(INTERRUPTED if ended else 0)


def play(source: ExchangeLog | Trace, run: Callable[[Callable[[], None]], None]) -> tuple[BaseException | None, float]:
    """Play, with a bar. Returns what ended it early, if anything did, and the seconds that it took."""
    import gc  # noqa: PLC0415
    import signal  # noqa: PLC0415
    import time  # noqa: PLC0415

    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start, ended = time.perf_counter(), None
    try:
        with progress(source) as tick:
            run(tick)
    except (KeyboardInterrupt, GuardError) as error:
        ended = error
    except BrokenPipeError:
        # Whoever read the decisions has left. Python would stumble over the closed pipe once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    return ended, time.perf_counter() - start


def console(*, err: bool) -> Console:
    """Where pages go: standard output, or standard error when the output is taken."""
    from rich.console import Console  # noqa: PLC0415

    found = Console(stderr=err, highlight=False)
    return found if found.is_terminal else Console(stderr=err, highlight=False, width=PAGE_WIDTH)


@contextmanager
def progress(source: ExchangeLog | Trace | Source) -> Iterator[Callable[[], None]]:
    """A bar on standard error with the bytes read and the time left; nothing when that is no terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

    terminal = Console(stderr=True)
    if not terminal.is_terminal:
        yield lambda: None
        return
    columns = (TextColumn("replaying"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True) as bar:
        task = bar.add_task("", total=source.size or None)
        yield lambda: bar.update(task, completed=source.position)
