"""The house keeps its shape: floors, names, sizes, and time only upstairs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

import gateway_guard
from gateway_guard.signals import catalogue

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gateway_guard"
MODULES = sorted(PACKAGE.rglob("*.py"))
SIZE = 400
NOT_NAMES = {"utils", "util", "helpers", "helper", "manager", "service", "core", "base", "common", "misc"}
CLOCKS = {"now", "utcnow", "today", "monotonic", "perf_counter", "time_ns"}

# Rooms that may know the time, the disk, the network or chance: the edges, and the few rooms whose work it is.
UPSTAIRS = {
    "__main__",
    "cli",
    "proxy",
    "console",
    "asgi",
    "replay",
    "assembly",
    "worker",
    "candidate",
    "trace",
    "appeals",
    "metrics",
    "challenge",
    "client",
    "identity",
    "stores.redis",
    "shared_worker",
    "makers",
    "tuning",
    "batch",
}


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _pure_sources() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [sources] = [contract["source_modules"] for contract in contracts if contract["name"].startswith("Time, chance")]
    return [source.removeprefix("gateway_guard.") for source in sources]


def _under(name: str, rooms: Iterable[str]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


def test_imports_keep_the_contracts() -> None:
    """The floors of pyproject.toml hold, with no cycle and no clock downstairs."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_is_either_pure_or_known_to_be_upstairs() -> None:
    """A new module cannot slip past the contract on time and chance by not being named in it."""
    rooms = [*_pure_sources(), *UPSTAIRS]
    assert [name for name in map(_name, MODULES) if not _under(name, rooms) and name not in ("__init__", "stores")] == []


def test_no_clock_is_read_downstairs() -> None:
    """`datetime` may format a time that is handed in, and never ask for one."""
    pure = _pure_sources()
    asked = [
        f"{_name(path)}:{node.lineno}"
        for path in MODULES
        if _under(_name(path), pure)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS
    ]
    assert asked == []


def test_modules_are_small() -> None:
    """A module over 400 lines has two subjects."""
    assert {_name(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > SIZE} == {}


def test_modules_are_named_for_what_they_do() -> None:
    """A module called `utils` does nothing in particular."""
    assert [_name(path) for path in MODULES if NOT_NAMES & set(path.relative_to(PACKAGE).with_suffix("").parts)] == []


def test_packages_re_export_and_define_nothing() -> None:
    """What is defined in an `__init__` is hard to find and easy to import in a circle. `__getattr__` may serve a name lazily."""
    defined = [
        f"{_name(path)}.{node.name}"
        for path in MODULES
        if path.name == "__init__.py"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name != "__getattr__"
    ]
    assert defined == []


def test_the_front_door_exports_these_names() -> None:
    """The public API is a list that a reviewer can read; a change of it is a change of this line."""
    assert sorted(gateway_guard.__all__) == ["GatewayGuard"]
    for name in gateway_guard.__all__:
        assert getattr(gateway_guard, name) is not None


def test_every_signal_is_documented() -> None:
    """A signal that a policy can name tells in its docstring what it sees."""
    for name, signal in catalogue.SIGNALS.items():
        assert (signal.__doc__ or "").strip(), name


# Spelled so that the expression does not find itself.
ELSEWHERE = re.compile(r"/wor[k]/(main|shared)|[.][.]/share[d]/|\bTOD[O]\b|\bFIXM[E]\b|\bissue #?\d")


@pytest.mark.parametrize("folder", ["gateway_guard", "policies", "examples", "docs", "tests", "."])
def test_nothing_speaks_of_the_place_where_it_was_written(folder: str) -> None:
    """The tree stands on its own: no paths of one machine, no notes to oneself."""
    files = (ROOT / folder).glob("*") if folder == "." else (ROOT / folder).rglob("*")
    texts = [path for path in files if path.suffix in {".py", ".md", ".yaml", ".toml", ".sh", ".lua"} and "__pycache__" not in path.parts]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in texts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ELSEWHERE.search(line)
    ]
    assert found == []
