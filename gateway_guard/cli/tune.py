"""`gateway-guard tune`: quotas and thresholds that keep friction on benign traffic within a budget."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_guard.cli.replay import console, open_stage, progress
from gateway_guard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway_guard.policy.model import Policy
    from gateway_guard.replay.run import Step
    from gateway_guard.replay.stage import Stage
    from gateway_guard.tuning.friction import Watch
    from gateway_guard.tuning.needs import Needs
    from gateway_guard.tuning.patch import Change
    from gateway_guard.tuning.tune import Proposal


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(tune)


def tune(
    traffic: Annotated[str, typer.Argument(help="Benign traffic: an exchange log or a trace, a week or more; - for standard input.", show_default=False)],
    policy: Annotated[Path, typer.Option(envvar="GATEWAY_GUARD_POLICY", help="The policy to start from.", show_default=False)],
    budget: Annotated[str, typer.Option(help="Share of benign organisations that may be touched in a week.")] = "0.05%",
    accounts: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_DIRECTORY", help="The account directory (accounts.csv).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the proposal here: a policy that includes the one it changes.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Propose quotas and thresholds for a friction budget, from your own benign traffic.

    How wide a quota is set is decided on some organisations and measured on others that were not asked. An account without an organisation counts as one. The
    traffic is played twice: once to learn what everybody needs, once with the proposal in force. Nothing is changed: read the file, then use it.
    """
    import msgspec  # noqa: PLC0415 - help must not wait for all of this

    from gateway_guard.policy.units import share  # noqa: PLC0415
    from gateway_guard.trace.output import Output  # noqa: PLC0415
    from gateway_guard.tuning.tune_page import page  # noqa: PLC0415

    try:
        allowed = share(budget)
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from None
    if out is not None and out.parent.resolve() != policy.parent.resolve():
        raise UsageError(f"--out: {out} must lie beside {policy}: the paths in a policy are relative to the file that is loaded")
    if out is not None and out.resolve() == policy.resolve():
        raise UsageError(f"--out: {out} is the policy itself; the proposal builds on it and needs a name of its own")
    found, text = _proposal(traffic, policy, accounts, allowed)
    if out is not None:
        with Output(str(out)) as output:
            output.write(text.encode())
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    console(err=False).print(page(found))
    typer.echo(f"\nwritten to {out}" if out is not None else f"\n{text}")


def _proposal(traffic: str, policy: Path, accounts: Path | None, budget: float) -> tuple[Proposal, str]:
    with tempfile.TemporaryDirectory() as folder:
        trace, needs, before, rules = _asked(traffic, policy, accounts, Path(folder))
        return _tried(Path(traffic).name, trace, policy, accounts, (needs, before, rules), budget)


def _asked(traffic: str, policy: Path, accounts: Path | None, folder: Path) -> tuple[str, Needs, Watch, Policy]:
    """The first pass: what everybody needs, and a trace of the traffic for the second."""
    from gateway_guard.trace.events import Trace  # noqa: PLC0415
    from gateway_guard.tuning.friction import Watch  # noqa: PLC0415
    from gateway_guard.tuning.needs import Needs  # noqa: PLC0415

    stage = open_stage(traffic, policy, accounts, enforce=False, fingerprints=True, analyst=False)
    rules = stage.gate.rules
    needs, watch = Needs(rules), Watch(stage.gate)
    takers: list[Callable[[Step], None]] = [needs.take, watch.take]
    if isinstance(stage.source, Trace) and traffic != "-":
        _play(stage, takers)
        return traffic, needs, watch, rules.policy
    trace = folder / "traffic.ggt"
    _kept(stage, takers, trace)
    return str(trace), needs, watch, rules.policy


def _kept(stage: Stage, takers: list[Callable[[Step], None]], trace: Path) -> None:
    from gateway_guard.replay.run import Tracing  # noqa: PLC0415
    from gateway_guard.trace.events import TraceWriter  # noqa: PLC0415
    from gateway_guard.trace.output import Output  # noqa: PLC0415

    with Output(str(trace)) as output:
        writer = TraceWriter(output, key=stage.key)
        tracing = Tracing(writer)
        _play(stage, [*takers, tracing.take])
        tracing.finish()
        writer.finish()


def _tried(name: str, trace: str, policy: Path, accounts: Path | None, first: tuple[Needs, Watch, Policy], budget: float) -> tuple[Proposal, str]:
    """The second pass: the proposal itself, played."""
    from gateway_guard.tuning import tune as tuning  # noqa: PLC0415
    from gateway_guard.tuning.patch import written  # noqa: PLC0415

    needs, before, rules = first
    if not needs.requests:
        raise UsageError(f"{name}: no request in it that could be decided: there is nothing to learn from")
    found = needs.found()
    choice, change = tuning.proposed(rules, found, needs.units, budget, needs.last - needs.first)
    watch, calibrated = _played(trace, policy, accounts, change)
    change = tuning.moved(rules, change, watch.found(), watch.scores, budget)
    if change.rungs or change.clusters_shadow:
        watch, calibrated = _played(trace, policy, accounts, change)
    organisations = len(set(needs.units.values()))
    left = tuning.untouched(rules, change.quotas)
    basis = tuning.Basis(name, needs.requests, len(needs.units), organisations, needs.first, needs.last, left)
    said = tuning.guarantee(choice, basis, budget)
    told = tuning.Proposal(
        policy=rules.name,
        budget=budget,
        basis=basis,
        choice=choice,
        change=change,
        before=before.found(),
        friction=watch.found(),
        calibrated=calibrated,
        guarantee=said,
    )
    head = [
        f"Proposed by `gateway-guard tune` from {name}, {needs.requests:,} requests of {organisations:,} organisations, for a budget of {budget:.3%} a week.",
        *said,
    ]
    return told, written(rules, policy.name, change, head)


def _played(trace: str, policy: Path, accounts: Path | None, change: Change) -> tuple[Watch, str]:
    from gateway_guard.tuning.friction import Watch  # noqa: PLC0415
    from gateway_guard.tuning.patch import patched  # noqa: PLC0415

    stage = open_stage(trace, policy, accounts, enforce=False, change=lambda rules: patched(rules, change))
    watch = Watch(stage.gate)
    _play(stage, [watch.take])
    return watch, stage.gate.view.calibrated


def _play(stage: Stage, takers: list[Callable[[Step], None]]) -> None:
    try:
        with progress(stage.source) as tick:
            for number, step in enumerate(stage.steps):
                for take in takers:
                    take(step)
                if not number % 128:
                    tick()
    finally:
        stage.source.close()
