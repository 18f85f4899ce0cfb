"""`gateway-guard power`: the smallest and slowest campaign that a policy would still catch in your own traffic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway_guard.cli.replay import INTERRUPTED, check_places, console, open_stage, progress
from gateway_guard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway_guard.replay.stage import Stage
    from gateway_guard.tuning.background import Background
    from gateway_guard.tuning.power import Cell, Grid, Laboratory, Power


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(power)


def power(
    traffic: Annotated[str, typer.Argument(help="Your own benign traffic: an exchange log or a trace, some days or more.", show_default=False)],
    policy: Annotated[Path, typer.Option(envvar="GATEWAY_GUARD_POLICY", help="The policy, with its calibration.", show_default=False)],
    accounts: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_DIRECTORY", help="The account directory (accounts.csv).")] = None,
    exchanges: Annotated[int, typer.Option(min=100, max=1_000_000, help="A campaign that has had so many exchanges untouched has got away.")] = 10_000,
    grid: Annotated[Literal["small", "medium", "large"], typer.Option(help="How many campaigns are tried: 8, 36 or 100.")] = "medium",
    seed: Annotated[int, typer.Option(min=0, help="Of all chance: the same seed gives the same campaigns.")] = 1,
    report: Annotated[list[str] | None, typer.Option(help="Write it here, as a page (.html) or as JSON (.json). May be given twice.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Put made campaigns into your own traffic, and see which of them a policy would catch, and after how many exchanges.

    Campaigns differ in accounts, in requests a day and in what they hide: headers, network and cards, or all of it, mixed with honest requests. Detection
    is not told which requests are made. Ctrl-C shows what was tried so far. Exit code: 0 done, 1 the traffic could not be used, 2 called wrongly, 130
    interrupted.
    """
    from gateway_guard.trace.output import Output  # noqa: PLC0415 - help must not wait for all of this
    from gateway_guard.tuning.power import GRIDS, Power  # noqa: PLC0415
    from gateway_guard.tuning.power_page import page  # noqa: PLC0415

    reports = report or []
    check_places(traffic, *reports)
    stage = open_stage(traffic, policy, accounts, enforce=True, fingerprints=True, analyst=False)
    background = _read(stage)
    room = _laboratory(stage, policy, background, seed=seed, within=exchanges)
    with ExitStack() as stack:
        files = [stack.enter_context(Output(name)) for name in reports]
        cells, complete = _tried(room, GRIDS[grid])
        told = Power(
            policy=stage.policy.name,
            calibrated=room.calibrated,
            traffic=Path(traffic).name,
            exchanges=exchanges,
            seed=seed,
            days=round(room.days, 3),
            requests=background.requests,
            accounts=background.accounts,
            share=background.share,
            complete=complete,
            cells=cells,
        )
        for file in files:
            file.write(_written(told, file.name))
    if as_json:
        typer.echo(_written(told, "-").decode(), nl=False, err="-" in reports)
    else:
        console(err="-" in reports).print(page(told))
    raise typer.Exit(0 if complete else INTERRUPTED)


def _written(told: Power, name: str) -> bytes:
    """In the form that the file's name asks for."""
    if name.endswith((".html", ".htm")):
        from gateway_guard.tuning.power_html import render  # noqa: PLC0415

        return render(told)
    from gateway_guard.replay.report import encoded  # noqa: PLC0415

    return encoded(told)


def _read(stage: Stage) -> Background:
    from gateway_guard.replay.run import history  # noqa: PLC0415
    from gateway_guard.tuning.background import Background  # noqa: PLC0415

    background = Background()
    try:
        with progress(stage.source) as tick:
            for event in history(stage.steps):
                background.take((event,))
                tick()
    finally:
        stage.source.close()
    if not background.requests:
        raise UsageError(f"{stage.source.name}: no request in it that could be decided: there is nothing to hide a campaign in")
    return background


def _laboratory(stage: Stage, policy: Path, background: Background, *, seed: int, within: int) -> Laboratory:
    from gateway_guard.identity.pseudonyms import Pseudonyms  # noqa: PLC0415
    from gateway_guard.tuning.power import Laboratory  # noqa: PLC0415
    from gateway_guard.worker import analyst_of  # noqa: PLC0415

    rules = stage.gate.rules
    if not rules.policy.analysis.enabled:
        raise UsageError(f"{policy}: `analysis` is off: without the analyst no campaign is ever found")
    analyst = analyst_of(rules.policy, policy.parent)
    if not analyst.calibrated:
        raise UsageError(f"{policy}: nothing follows from what is found without a calibration that holds: make one with `gateway-guard calibrate`")
    room = Laboratory(analyst, rules, background, names=Pseudonyms(b"made campaigns are nobody's accounts"), seed=seed, within=within)
    if not room.donors:
        raise UsageError(f"{stage.source.name}: all of its requests are in the second half of its time: give traffic of some days")
    return room


def _tried(room: Laboratory, grid: Grid) -> tuple[list[Cell], bool]:
    import signal  # noqa: PLC0415

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cells: list[Cell] = []
    try:
        with _campaigns(len(grid)) as tick:
            for evasion, size in grid.cells():
                tick(f"{size.accounts:,} accounts, {size.daily:g} a day, hidden: {evasion.name}")
                cells.append(room.cell(evasion, size))
    except KeyboardInterrupt:
        return cells, False
    return cells, True


@contextmanager
def _campaigns(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error; nothing when that is no terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    terminal = Console(stderr=True)
    if not terminal.is_terminal:
        yield lambda said: None
        return
    with Progress(MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"), console=terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        begun = [False]

        def tick(said: str) -> None:
            bar.update(task, description=said, advance=1 if begun[0] else 0)
            begun[0] = True

        yield tick
