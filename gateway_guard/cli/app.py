"""The command line: every verb in one place."""

from __future__ import annotations

import typer

from gateway_guard.cli import (
    acknowledge,
    analyse,
    appeals,
    audit,
    calibrate,
    candidate,
    check,
    clusters,
    compare,
    explain,
    export,
    import_,
    power,
    provenance,
    replay,
    schema,
    serve,
    tune,
)

app = typer.Typer(
    name="gateway-guard",
    help="Adaptive quotas per account, and per cluster of accounts that act as one, for LLM APIs.",
    epilog="Exit code: 0 done, 1 failed, 2 called wrongly, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

check.register(app)
schema.register(app)
serve.register(app)
replay.register(app)
compare.register(app)
candidate.register(app)
explain.register(app)
import_.register(app)
export.register(app)
calibrate.register(app)
tune.register(app)
power.register(app)
provenance.register(app)
clusters.register(app)
analyse.register(app)
appeals.register(app)
acknowledge.register(app)
audit.register(app)
