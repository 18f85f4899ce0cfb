"""The program: runs a verb and turns errors into one line and an exit code."""

from __future__ import annotations

import sys

from gateway_guard.errors import GuardError, UsageError

INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main() -> int:
    """Run the command line. Exit code: 0 done, 1 failed, 2 called wrongly, 130 interrupted."""
    try:
        from gateway_guard.cli.app import app  # noqa: PLC0415 - an interrupt while importing is an interrupt too

        app()
    except UsageError as error:
        return _fail(error, 2)
    except GuardError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _fail(error: GuardError, code: int) -> int:
    """A user's mistake is told in a line, without a trace-back."""
    for line in str(error).splitlines():
        sys.stderr.write(f"gateway-guard: {line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
