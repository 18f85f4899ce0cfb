"""`gateway-guard schema`: the JSON Schema of policy files, for editors."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(schema)


def schema() -> None:
    """Print the JSON Schema (2020-12) of a policy file.

    An editor that knows it completes keys and marks mistakes while you type.
    """
    import orjson  # noqa: PLC0415 - help must not wait for pydantic

    from gateway_guard.policy import model  # noqa: PLC0415

    typer.echo(orjson.dumps(model.schema(), option=orjson.OPT_INDENT_2).decode())
