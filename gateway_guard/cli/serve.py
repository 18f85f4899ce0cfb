"""`gateway-guard serve`: the guard as a reverse proxy on its own feet."""

from __future__ import annotations

import datetime
import enum
import gc
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from gateway_guard.proxy import Front

# Streams that are under way at a stop may end within this time.
GRACE = 30


class LogLevel(enum.StrEnum):
    """How much is told on standard error."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(serve)


def serve(
    upstream: Annotated[str, typer.Option(help="The model server, such as http://127.0.0.1:8000.", show_default=False)],
    policy: Annotated[Path, typer.Option(envvar="GATEWAY_GUARD_POLICY", help="The policy file.", show_default=False)],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8080,
    uds: Annotated[Path | None, typer.Option(help="Listen on this unix socket instead.")] = None,
    accounts: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_DIRECTORY", help="The account directory (accounts.csv).")] = None,
    key_file: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_KEY_FILE", help="The secret of all keyed hashes; made if missing.")] = None,
    log_level: Annotated[LogLevel, typer.Option(help="How much is told on standard error.")] = LogLevel.INFO,
) -> None:
    """Guard a model server from in front of it, as a reverse proxy."""
    import uvicorn  # noqa: PLC0415 - help must not wait for it

    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = guarded_proxy(upstream, policy, accounts=accounts, key_file=key_file)
    server = uvicorn.Server(configured(app, host=host, port=port, uds=uds, log_level=log_level.value))
    # uvicorn raises SIGTERM again when it has shut down; the default would end the process before its logs are written out.
    signal.signal(signal.SIGTERM, _stop)
    # What is loaded stays. To look through it for garbage again and again would halt all requests for a twentieth of a second each time.
    gc.collect()
    gc.freeze()
    server.run()
    if not server.started:
        raise typer.Exit(1)


def _stop(*_: object) -> None:
    raise SystemExit(0)


def guarded_proxy(upstream: str, policy: Path, *, accounts: Path | None = None, key_file: Path | None = None) -> Front:
    """The guarded proxy as an ASGI application."""
    from gateway_guard.asgi.middleware import GatewayGuard  # noqa: PLC0415
    from gateway_guard.dialects import DIALECTS  # noqa: PLC0415
    from gateway_guard.identity.pseudonyms import load_key  # noqa: PLC0415
    from gateway_guard.policy.load import load  # noqa: PLC0415
    from gateway_guard.proxy import Front, Proxy  # noqa: PLC0415

    rules = load(policy, today=datetime.datetime.now(datetime.UTC).date()).policy
    paths = {path: DIALECTS[name] for path, name in rules.guard.paths.items()}
    proxy = Proxy(upstream, rules.upstream, paths=paths, trusted=rules.identity.trusted_proxies)
    key = load_key({"GATEWAY_GUARD_KEY_FILE": str(key_file)}) if key_file else None
    return Front(GatewayGuard(proxy, policy, directory=accounts, key=key))


def configured(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 8080, uds: Path | None = None, log_level: str = "info") -> uvicorn.Config:
    """How uvicorn serves it. The client's address is the guard's to find out, Date and Server are the model server's."""
    import uvicorn  # noqa: PLC0415

    return uvicorn.Config(
        app,
        host=host,
        port=port,
        uds=str(uds) if uds else None,
        log_level=log_level,
        loop="uvloop",
        http="httptools",
        ws="none",
        proxy_headers=False,
        date_header=False,
        server_header=False,
        access_log=False,
        timeout_graceful_shutdown=GRACE,
    )
