"""The middleware: pure ASGI, mounted in front of an LLM API."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway_guard.asgi.appeals import AppealDesk
from gateway_guard.asgi.challenge import redeem
from gateway_guard.asgi.engine import Engine
from gateway_guard.asgi.exchange import Exchange
from gateway_guard.asgi.settings import settle_settings


class GatewayGuard:
    """Guards the LLM endpoints of `app`; everything else (other paths, websockets, lifespan) passes untouched, but for the
    guard's own paths: appeals when the policy keeps a state, challenges when it has any.

    `policy` a policy file (default: GATEWAY_GUARD_POLICY of the environment) · `directory` an accounts.csv (GATEWAY_GUARD_DIRECTORY, or the policy's
    `identity.directory`) or a callable from a credential to what is known of its account · `key` the secret of all keyed hashes
    (GATEWAY_GUARD_KEY, GATEWAY_GUARD_KEY_FILE, else a file `.gateway-guard.key` beside the policy, made with mode 0600).
    Raises PolicyError, DirectoryError or UsageError when it cannot start: a guard that cannot guard does not let the service come up.
    """

    def __init__(
        self,
        app: ASGIApp,
        policy: str | Path | None = None,
        *,
        directory: str | Path | Callable[[str], Mapping[str, Any] | None] | None = None,
        key: bytes | None = None,
    ) -> None:
        self.app = app
        table = directory if isinstance(directory, (str, Path)) else None
        settings = settle_settings(os.environ, policy=policy, directory=table, key=key)
        self.engine = Engine(settings, lookup=directory if callable(directory) else None)
        self.appeals = AppealDesk(self.engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            root = scope.get("root_path", "")
            path = path.removeprefix(root) if root else path
            dialect = self.engine.intake.dialect(scope["method"], path)
            if dialect is not None:
                self.engine.watch()
                await Exchange(self.engine, scope, receive, send, dialect).run(self.app)
                return
            if self.appeals.takes(path):
                self.engine.watch()
                await self.appeals.serve(scope, receive, send, path)
                return
            if self.engine.desk is not None and path == self.engine.desk.path:
                self.engine.watch()
                await redeem(self.engine, scope, receive, send)
                return
        await self.app(scope, receive, self._closing(send) if scope["type"] == "lifespan" else send)

    def _closing(self, send: Send) -> Send:
        """The lifespan's `send`. What is still to be written is written before the server hears that all is over: after that it may end the process."""

        async def closing(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.engine.close()
            await send(message)

        return closing
