"""Fixtures for all tests."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

# Speed is shown in benchmarks; on a busy machine a deadline fails what is right.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A run that was started in the background has SIGINT ignored, and so would have the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
