"""What stands outermost when the proxy is served: a Date on every answer, and one line instead of a trace-back when an answer cannot be finished."""

from __future__ import annotations

import logging
import time
from email.utils import formatdate

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway_guard.asgi.departure import ClientLeft
from gateway_guard.proxy.app import UpstreamLost

logger = logging.getLogger("gateway_guard.proxy")


class Front:
    """Wraps the guarded proxy. An answer that is left unfinished makes the server close the connection, so the client knows."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            await send(_with_date(message) if message["type"] == "http.response.start" else message)

        try:
            await self._app(scope, receive, dated)
        except ClientLeft:
            pass
        except UpstreamLost as error:
            logger.warning("%s", error)


def _with_date(message: Message) -> Message:
    headers = list(message.get("headers", ()))
    if any(name == b"date" for name, _ in headers):
        return message
    return {**message, "headers": [*headers, (b"date", formatdate(time.time(), usegmt=True).encode())]}
