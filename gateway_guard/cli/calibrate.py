"""`gateway-guard calibrate`: learn from benign history what is usual, so that the analyst may act on what is not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_guard.cli.replay import open_stage
from gateway_guard.errors import UsageError

if TYPE_CHECKING:
    from gateway_guard.analysis.calibration import Calibration

WEEK = 7 * 86400.0


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(calibrate)


def calibrate(
    traffic: Annotated[str, typer.Argument(help="Benign history: an exchange log or a trace, a week or more; - for standard input.", show_default=False)],
    policy: Annotated[Path, typer.Option(envvar="GATEWAY_GUARD_POLICY", help="The policy file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where to write the calibration.", show_default=False)],
    accounts: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_DIRECTORY", help="The account directory (accounts.csv).")] = None,
    budget: Annotated[str, typer.Option(help="Share of benign accounts that may be touched in a week.")] = "0.05%",
) -> None:
    """Calibrate the analyst on your own benign traffic and a friction budget.

    Name the file in the policy (`analysis.calibration`). Without one the analyst finds clusters and only records them. Groups that stand far out of the
    history are left out and counted as suspects: look at them before you trust the calibration. It holds keyed hashes, counts and limits, no text.
    """
    from gateway_guard.analysis.calibrate import calibrate as learn  # noqa: PLC0415 - help must not wait for all of this
    from gateway_guard.analysis.calibration import encode  # noqa: PLC0415
    from gateway_guard.policy.units import share  # noqa: PLC0415
    from gateway_guard.replay.run import history  # noqa: PLC0415
    from gateway_guard.trace.output import Output  # noqa: PLC0415

    try:
        allowed = share(budget)
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from None
    stage = open_stage(traffic, policy, accounts, fingerprints=True, analyst=False)
    found = learn(history(stage.steps), budget=allowed)
    with Output(str(out)) as output:
        output.write(encode(found))
    typer.echo(told(found, out))


def told(found: Calibration, out: Path) -> str:
    """What was learned, in a few lines."""
    lines = [
        f"{out}: calibration {found.digest}, {found.events:,} requests of {found.accounts:,} accounts in {found.span / WEEK:.1f} weeks",
        f"budget {found.budget:.3%} of benign accounts a week; this history vouches for {found.bound:.3%}",
        f"{found.groups:,} benign groups measured; {found.suspects:,} groups of {found.suspected:,} accounts stand out and were left out",
    ]
    if not found.name:
        lines.append("the history is too small to vouch for the budget: the analyst stays in shadow. Give more history, or a larger --budget.")
    return "\n".join(lines)
