"""Fixtures for all tests."""

from __future__ import annotations

import signal

import pytest

# A run that was started in the background has SIGINT ignored, and so would have the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
