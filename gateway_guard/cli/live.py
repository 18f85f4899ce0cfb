"""`gateway-guard replay --target`: what it is to do, and whether it came out well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from gateway_guard.errors import TrafficError, UsageError

if TYPE_CHECKING:
    from gateway_guard.replay.answers import Answers
    from gateway_guard.replay.live import Live, Plan

Target = Annotated[str, typer.Option(help="Send the requests to this staging deployment, and compare its answers with the decisions.", show_default=False)]
Keys = Annotated[Path | None, typer.Option("--credentials", help="With --target: the accounts' keys in staging (CSV: account, key).", show_default=False)]
Speed = Annotated[float, typer.Option(min=0.01, max=10_000, help="With --target: times the recorded pace.")]
Rate = Annotated[float, typer.Option(min=0.01, help="With --target: requests a second at most.")]
InFlight = Annotated[int, typer.Option(min=1, max=10_000, help="With --target: requests at once at most.")]
Most = Annotated[int, typer.Option("--max-requests", min=1, help="With --target: end after so many.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="With --target: seconds without a sign of life, after which an answer is given up.")]
Hosts = Annotated[list[str] | None, typer.Option("--allow-host", help="With --target: a host beside this machine that is a staging one. May be repeated.")]
AnyHost = Annotated[bool, typer.Option("--any-host", help="With --target: send the recorded prompts wherever it says.")]
Tolerate = Annotated[str, typer.Option(help="With --target: the share of answers that may differ.")]


class Wanted(NamedTuple):
    """What the options of a live replay say."""

    target: str
    credentials: Path | None
    speed: float
    rate: float
    in_flight: int
    most: int
    timeout: float
    hosts: list[str]
    anywhere: bool
    tolerate: float


def planned(traffic: str, wanted: Wanted) -> Plan:
    """What is to be sent where, judged before anything is read."""
    from gateway_guard.replay.live import Plan  # noqa: PLC0415 - help must not wait for all of this
    from gateway_guard.replay.resend import Bounds  # noqa: PLC0415
    from gateway_guard.replay.target import checked, read_credentials  # noqa: PLC0415
    from gateway_guard.trace.events import is_trace  # noqa: PLC0415

    target = checked(wanted.target, wanted.hosts, anywhere=wanted.anywhere)
    if traffic == "-" or is_trace(traffic):
        raise UsageError(f"{traffic}: has no text to send, or cannot be read twice: give an exchange log with bodies (`record.exchanges`)")
    if wanted.credentials is None:
        raise UsageError("--target: give the accounts' keys in staging as --credentials FILE (CSV: account, key); what the log holds is never sent")
    bounds = Bounds(wanted.rate, wanted.in_flight, wanted.timeout)
    return Plan(target, read_credentials(wanted.credentials), bounds, wanted.speed, wanted.most)


def judge(live: Live, found: Answers, tolerate: float) -> None:
    """Whether the deployment did as the policy says. TrafficError tells why not."""
    record = live.record
    if record.came("failed") == record.sent:
        raise TrafficError(f"{found.target}: does not answer ({', '.join(found.failures)})")
    if record.came("unguarded") + record.came("failed") == record.sent:
        raise TrafficError(f"{found.target}: answers without `x-gateway-guard-decision`: no guard stands there, or something before it takes the header away")
    if found.differ > tolerate * found.sent:
        raise TrafficError(f"{found.target}: {found.differ:,} of {found.sent:,} answers are not as decided, and {tolerate:.3g} of them may be (--tolerate)")
