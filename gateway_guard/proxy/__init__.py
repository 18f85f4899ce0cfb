"""The guard on its own feet: a reverse proxy to one model server."""

from gateway_guard.asgi.departure import ClientLeft
from gateway_guard.proxy.app import Proxy, UpstreamLost
from gateway_guard.proxy.front import Front
from gateway_guard.proxy.upstream import UpstreamTransport

__all__ = ["ClientLeft", "Front", "Proxy", "UpstreamLost", "UpstreamTransport"]
