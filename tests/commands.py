"""The command line in this process: as `gateway-guard` is called, without waiting for an interpreter to start."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from gateway_guard import __main__ as program
from tests.fakes import KEY


class Told(NamedTuple):
    """What a command said and how it ended."""

    returncode: int
    stdout: str
    stderr: str


def command(folder: Path, *words: str, key: bytes = KEY) -> Told:
    """Run a verb with the policy in `folder` and the tests' key."""
    environment = {"GATEWAY_GUARD_POLICY": str(folder / "policy.yaml"), "GATEWAY_GUARD_KEY": key.decode()}
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict("os.environ", environment), mock.patch("sys.argv", ["gateway-guard", *words]), redirect_stdout(out), redirect_stderr(err):
        try:
            code = program.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Told(code, out.getvalue(), err.getvalue())
