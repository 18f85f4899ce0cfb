"""What is shipped is complete, and what the documents say is so."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from gateway_guard.policy.load import load

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_types_its_licence_and_the_policies(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [Parser().parsestr(archive.read(name).decode()) for name in names if name.endswith(".dist-info/METADATA")]
        [entries] = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "gateway_guard").rglob("*") if path.suffix in (".py", ".typed", ".lua")}
    assert modules <= names
    assert {name.split("/")[0].rsplit(".")[-1] for name in names} == {"gateway_guard", "data", "dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {Path(name).name for name in names if "share/gateway-guard/policies/" in name} == {
        path.name for path in (ROOT / "policies").iterdir() if path.is_file() and not path.name.startswith(".")
    }
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "gateway-guard = gateway_guard.__main__:main" in entries


def _named(requirements: list[str]) -> set[str]:
    return {Requirement(text).name.lower() for text in requirements}


def test_every_import_is_declared() -> None:
    """A package that is only there because another one needs it goes when that one changes."""
    declared = _named(PROJECT["dependencies"]).union(*map(_named, PROJECT["optional-dependencies"].values()))
    # These come with one that is declared, whose interface they are part of.
    declared |= {"multidict", "yarl", "cryptography", "pydantic-core"}
    distributions = packages_distributions()
    imported = {
        name.split(".")[0]
        for path in (ROOT / "gateway_guard").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
    }
    foreign = imported - set(sys.stdlib_module_names) - {"gateway_guard", ""}
    assert {name for name in foreign if not {found.lower().replace("_", "-") for found in distributions.get(name, [name])} & declared} == set()


OPTIONAL = [requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra if not requirement.startswith("gateway-guard[")]


@pytest.mark.parametrize("requirement", PROJECT["dependencies"] + OPTIONAL)
def test_every_dependency_has_a_floor_and_a_ceiling(requirement: str) -> None:
    operators = {specifier.operator for specifier in Requirement(requirement).specifier}
    assert operators == {">=", "<"}


# The documents


def _blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


@pytest.mark.parametrize("text", _blocks("README.md", "yaml") + _blocks("policies/README.md", "yaml"))
def test_policies_in_the_documents_load(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    for path in (ROOT / "policies").glob("*.yaml"):
        (folder / path.name).write_bytes(path.read_bytes())
    place = tmp_path if "include: policies/" in text else folder
    (place / "ours.yaml").write_text(text)
    assert load(place / "ours.yaml").policy.name == "ours"


@pytest.mark.parametrize("text", _blocks("README.md", "python"))
def test_python_in_the_documents_compiles(text: str) -> None:
    assert compile(text, "README.md", "exec")


def test_links_between_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "policies").glob("*.md")]
    dead = [
        f"{document.name}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert dead == []


def test_every_command_in_the_documents_exists() -> None:
    done = subprocess.run([sys.executable, "-m", "gateway_guard", "--help"], capture_output=True, text=True, check=True)
    for document in ("README.md", "docs/operations.md", "policies/README.md"):
        for verb in set(re.findall(r"^\s*`?gateway-guard ([a-z]+) ", (ROOT / document).read_text(), re.MULTILINE)):
            assert re.search(rf"\b{verb}\b", done.stdout), (document, verb)


@pytest.mark.parametrize("target", ["demo", "test", "bench"])
def test_every_make_target_in_the_readme_exists(target: str) -> None:
    assert f"make {target}" in (ROOT / "README.md").read_text()
    assert re.search(rf"^[a-z ]*\b{target}\b[a-z ]*:", (ROOT / "Makefile").read_text(), re.MULTILINE)
