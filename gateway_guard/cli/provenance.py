"""`gateway-guard provenance`: the marks of clusters, and whether a suspect model's outputs show them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway_guard.cli.state import AsJson
from gateway_guard.errors import TrafficError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gateway_guard.provenance.check import Check, Votes
    from gateway_guard.provenance.marker import Marker

# Bytes of one output.
LONGEST = 4 * 2**20
provenance = typer.Typer(help="Show the marks of clusters, or check outputs for them.", no_args_is_help=True)
PolicyFile = Annotated[Path, typer.Option("--policy", envvar="GATEWAY_GUARD_POLICY", help="The policy file, whose key draws the marks.", show_default=False)]
Clusters = Annotated[
    list[str] | None, typer.Option("--cluster", help="A cluster, as logs name it. May be given again. [default: all that the audit log names]")
]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(provenance, name="provenance")


@provenance.command()
def check(
    outputs: Annotated[Path, typer.Argument(help='The suspect\'s outputs, a JSON object {"text": "..."} a line (docs/provenance.md).', show_default=False)],
    policy: PolicyFile,
    cluster: Clusters = None,
    baseline: Annotated[Path | None, typer.Option(help="Outputs to the same prompts of a model that has not seen marked answers.")] = None,
    level: Annotated[float, typer.Option(min=1e-9, max=0.5, help="Report what chance would bring about in this share of checks at most.")] = 0.01,
    controls: Annotated[int, typer.Option(min=100, max=10_000_000, help="Keys that mark nobody, to compare with.")] = 100_000,
    as_json: AsJson = False,
) -> None:
    """Check whether a suspect model's outputs show the marks of a cluster.

    Tells for each cluster how probable such outputs are for a model that has never seen them, corrected for the number of clusters, and what that does not
    show. Exit code: 0 checked, whatever was found, 1 a file could not be used, 2 called wrongly.
    """
    import msgspec  # noqa: PLC0415 - help must not wait for all of this

    from gateway_guard.cli.replay import console  # noqa: PLC0415
    from gateway_guard.provenance.check import check as compare  # noqa: PLC0415

    marker = _marker(policy)
    suspect, known = _read(outputs), _read(baseline) if baseline is not None else None
    found = compare(suspect, cluster or _marked(policy), marker, baseline=known, controls=controls, level=level)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        console(err=False).print(_page(found))


@provenance.command()
def marks(policy: PolicyFile, cluster: Clusters = None, as_json: AsJson = False) -> None:
    """Show what marks clusters have: the habits that the model is asked for, and the name of the decoy tool."""
    import msgspec  # noqa: PLC0415

    marker = _marker(policy)
    drawn = {name: marker.of(name) for name in cluster or _marked(policy)}
    if as_json:
        told = [{"cluster": name, "habits": found.asked, "tool": found.tool} for name, found in drawn.items()]
        typer.echo(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
        return
    for name, found in drawn.items():
        typer.echo(f"{name}: decoy tool {found.tool}\n" + "\n".join(f"  {habit}" for habit in found.asked))


def _read(path: Path) -> Votes:
    """What is counted in a file of outputs."""
    import msgspec  # noqa: PLC0415

    from gateway_guard.provenance.check import Votes  # noqa: PLC0415
    from gateway_guard.trace.lines import Lines  # noqa: PLC0415

    votes, decoder = Votes(), msgspec.json.Decoder(_output())
    for number, line in enumerate(Lines(path, cap=LONGEST), 1):
        try:
            output = decoder.decode(line or b"")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TrafficError(f'{path}:{number}: is no output: {error}; write {{"text": "..."}}, and "tools": ["..."] for those that it calls') from None
        votes.add(output.text, output.tools)
    if not votes.outputs:
        raise TrafficError(f"{path}: holds no outputs")
    return votes


def _output() -> type[Any]:
    import msgspec  # noqa: PLC0415

    return msgspec.defstruct("Output", [("text", str), ("tools", list[str], [])])


def _marker(policy: Path) -> Marker:
    """The key that marks are drawn with. None is made here: under a new one nothing would fit."""
    from gateway_guard.assembly import provenance_key  # noqa: PLC0415
    from gateway_guard.cli.state import read_key, read_policy  # noqa: PLC0415
    from gateway_guard.provenance.marker import Marker  # noqa: PLC0415

    rules = read_policy(policy).provenance
    if rules.key_file is None:
        return Marker(provenance_key(rules, policy.parent, read_key(policy)))
    if not (policy.parent / rules.key_file).exists():
        raise UsageError(f"{policy.parent / rules.key_file}: no such file: marks can only be told with the key that they were made with")
    return Marker(provenance_key(rules, policy.parent, b""))


def _marked(policy: Path) -> list[str]:
    """The clusters whose answers were marked, by the audit log."""
    from gateway_guard.cli.audit import chosen, read_entries  # noqa: PLC0415

    try:
        entries = list(read_entries(chosen(None, policy)))
    except UsageError as error:
        raise UsageError(f"{error}; or name clusters with --cluster") from None
    found = sorted({str(entry.get("cluster")) for entry, _ in entries if entry["kind"] == "marked" and entry.get("cluster")})
    if not found:
        raise UsageError(f"{policy}: by its audit log no cluster's answers were marked; name clusters with --cluster")
    return found


def _page(found: Check) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from gateway_guard.replay.page import titled  # noqa: PLC0415

    table = titled("Marks in the outputs, the surest first", "cluster", right=("habits seen", "agree", "score", "p of habits", "decoy named", "p", "corrected"))
    table.add_column("")
    for one in found.findings:
        figures = (str(one.habits), str(one.agreeing), f"{one.score:+.2f}", f"{one.p_habits:.2g}", str(one.named), f"{one.p:.2g}", f"{one.corrected:.2g}")
        table.add_row(one.cluster, *figures, "MARKED" if one.found else "", style="bold" if one.found else "")
    beside = f", less those of {found.baseline:,} outputs of a baseline" if found.baseline else "; without a baseline only strong marks show"
    head = Text(f"{found.outputs:,} outputs, {found.words:,} words{beside}; compared with {found.controls:,} keys that mark nobody.")
    verdict = sum(one.found for one in found.findings)
    said = Text(f"{verdict} of {len(found.findings)} clusters below {found.level:g}, corrected for their number (Holm).", style="bold")
    parts = [f"{one.cluster}: " + ", ".join(f"{kind} {part:+.1f}" for kind, part in one.kinds.items()) for one in found.findings if one.found]
    return Group(head, "", table, "", said, *map(Text, parts), "", *(Text(f"- {limit}", style="dim") for limit in found.limits))
