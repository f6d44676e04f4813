"""The `--require` of tests/conftest.py, on small suites of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    shutil.copy(HERE / "conftest.py", tmp_path)
    shutil.copy(HERE.parent / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    return tmp_path


def run(suite: Path, body: str, *options: str) -> tuple[int, str]:
    (suite / "tests" / "test_it.py").write_text(f"import pytest\nfrom kernelgate import languages\n{body}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=suite,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


NOTHING_INSTALLED = "languages.load = lambda prefix=None: {}\n@pytest.mark.r\ndef test_r(): assert False\ndef test_other(): pass\n"
SKIPS_ITSELF = "@pytest.mark.sandbox\ndef test_it(): pytest.skip('not today')\n"


def test_a_missing_language_skips(suite: Path) -> None:
    status, output = run(suite, NOTHING_INSTALLED)
    assert status == 0
    assert "1 passed, 1 skipped" in output
    assert "r: no such kernelspec" in output


def test_a_required_one_fails_the_run(suite: Path) -> None:
    status, output = run(suite, NOTHING_INSTALLED, "--require=python,r")
    assert status == 4
    assert "required, and not to be had here: r: no such kernelspec" in output


@pytest.mark.sandbox
def test_a_skip_of_a_test_whose_kind_is_required_is_a_failure(suite: Path) -> None:
    assert run(suite, SKIPS_ITSELF)[0] == 0
    status, output = run(suite, SKIPS_ITSELF, "--require=sandbox")
    assert status == 1
    assert "skipped, although --require=sandbox was given" in output


def test_an_unknown_name_is_refused(suite: Path) -> None:
    status, output = run(suite, "", "--require=perl")
    assert status == 4
    assert "perl is not one of python" in output
