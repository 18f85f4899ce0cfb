"""How the APIs speak: request bodies read into one form, usage read off answers, refusals and limits said in the API's own words."""

from gateway_guard.dialects.registry import DIALECTS, get

__all__ = ["DIALECTS", "get"]
