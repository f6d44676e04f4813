"""The files around the code agree with it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import kernelgate

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# Modules whose package has another name, or comes with a package that is named.
BROUGHT_BY = {
    "backports": "backports-tarfile",
    "zmq": "pyzmq",
    "IPython": "ipykernel",
    "traitlets": "ipykernel",
    "jedi": "ipykernel",
    "parso": "ipykernel",
    "psutil": "ipykernel",
    "PIL": "matplotlib",
}


def canonical(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def named(*extras: str) -> set[str]:
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {canonical(requirement) for group in groups for requirement in group} - {"kernelgate"}


def test_the_changelog_is_about_this_version() -> None:
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == kernelgate.__version__


def test_the_lock_names_no_host_and_hashes_everything() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^-", LOCK, re.MULTILINE)
    pins = re.findall(r"^\S+==\S+.*\\\n(    --hash=sha256:[0-9a-f]{64})", LOCK, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^\S+==", LOCK, re.MULTILINE))


def test_the_lock_has_all_that_is_asked_for() -> None:
    locked = {canonical(line) for line in re.findall(r"^[\w.-]+==", LOCK, re.MULTILINE)}
    assert named("data", "test", "dev") <= locked


def test_what_the_package_imports_is_among_its_dependencies() -> None:
    imported = set()
    for file in (ROOT / "kernelgate").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            imported |= {module.split(".")[0] for module in modules}
    foreign = imported - sys.stdlib_module_names - {"kernelgate"}
    assert {canonical(BROUGHT_BY.get(module, module)) for module in foreign} <= named("data")


@pytest.mark.slow
def test_nothing_imports_upward() -> None:
    done = subprocess.run(
        ["lint-imports"], executable=Path(sys.executable).parent / "lint-imports", cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
