from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from kernelgate import languages
from kernelgate.setup.debian import Debian
from kernelgate.setup.install import Outcome, install, script_environment
from kernelgate.setup.step import Steps

SCRIPT = 'echo run >>"$RUNS"; mkdir -p node_modules; echo "$PYTHON" >node_modules/made\n'


class Place:
    """An environment, a source folder of one language, and a count of how often its script ran."""

    def __init__(self, root: Path) -> None:
        self.prefix, self.source, self.runs = root / "env", root / "kernelspecs" / "cobol", root / "runs"
        self.installed = languages.kernels_dir(self.prefix) / "cobol"
        self.out = io.StringIO()
        self.packages: list[str] = []
        self.source.mkdir(parents=True)
        (self.prefix / "bin").mkdir(parents=True)
        self.write_spec()
        self.write_script(SCRIPT)

    def write_spec(self, **ours: Any) -> None:
        facts = {"requires": {"files": ["node_modules/made"]}, "install": {"script": "install.sh"}, **ours}
        spec = {"argv": ["cobol"], "display_name": "COBOL", "language": "cobol", "metadata": {"kernelgate": facts}}
        (self.source / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")

    def write_script(self, script: str) -> None:
        (self.source / "install.sh").write_text(script, encoding="utf-8")

    def install(self, *, force: bool = False) -> Outcome:
        steps = Steps(self.prefix / "log", self.out)
        debian = Debian(steps, {})
        debian.install = lambda packages, title: self.packages.extend(packages)  # type: ignore[method-assign]
        return install(languages.load(self.prefix)["cobol"], steps=steps, debian=debian, force=force)

    def run_count(self) -> int:
        return len(self.runs.read_text(encoding="utf-8").splitlines()) if self.runs.exists() else 0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    monkeypatch.setattr(languages, "source_dir", lambda: place.source.parent)
    monkeypatch.setenv("RUNS", str(place.runs))
    return place


def test_installs_the_folder_and_runs_its_script_there(place: Place) -> None:
    assert place.install() == Outcome("cobol", changed=True)
    assert languages.load(place.prefix)["cobol"].ready
    assert (place.installed / "node_modules" / "made").read_text(encoding="utf-8").strip() == str(place.prefix / "bin" / "python3")
    assert not (place.source / "node_modules").exists()


def test_a_second_time_nothing_is_done(place: Place) -> None:
    place.install()
    assert place.install() == Outcome("cobol")
    assert place.run_count() == 1


def test_force_does_it_all_again(place: Place) -> None:
    place.install()
    assert place.install(force=True).changed
    assert place.run_count() == 2


def test_a_changed_source_is_installed_afresh(place: Place) -> None:
    place.install()
    (place.source / "kernel.js").write_text("1", encoding="utf-8")
    (place.installed / "left-over").touch()
    assert place.install().changed
    assert place.run_count() == 2
    assert (place.installed / "kernel.js").exists()
    assert not (place.installed / "left-over").exists()
    (place.source / "kernel.js").unlink()
    place.install()
    assert not (place.installed / "kernel.js").exists()


def test_what_somebody_built_in_the_source_folder_is_not_source(place: Place) -> None:
    (place.source / "node_modules").mkdir()
    (place.source / "node_modules" / "theirs").touch()
    place.install()
    assert not (place.installed / "node_modules" / "theirs").exists()
    (place.source / "node_modules" / "more").touch()
    assert not place.install().changed


def test_a_failed_script_is_told_and_tried_again(place: Place) -> None:
    place.write_script("echo no compiler here; exit 1\n")
    outcome = place.install()
    assert outcome.problem == "cobol: install.sh: exit status 1"
    assert outcome.tail == "no compiler here"
    assert not languages.load(place.prefix)["cobol"].ready
    place.write_script(SCRIPT)
    assert place.install().problem is None


def test_not_ready_after_a_failed_script_even_where_everything_required_is_there(place: Place) -> None:
    place.write_script(SCRIPT + "exit 1\n")
    place.install()
    assert languages.load(place.prefix)["cobol"].missing == ("the rest of its installation, which failed",)


def test_a_script_that_only_claims_success_is_found_out(place: Place) -> None:
    place.write_script("true\n")
    assert place.install().problem == "missing: file node_modules/made"


def test_what_was_deleted_from_the_installed_folder_comes_back(place: Place) -> None:
    place.install()
    (place.installed / "node_modules" / "made").unlink()
    assert place.install().problem is None
    assert place.run_count() == 2


def test_conditional_packages_only_where_the_command_is_missing(place: Place) -> None:
    apt = {"always": ["libzmq3-dev"], "if_missing": {"no-such-command": ["wanted"], "sh": ["unwanted"]}}
    place.write_spec(install={"apt": apt, "script": "install.sh"})
    place.install()
    assert place.packages == ["libzmq3-dev", "wanted"]


def test_a_broken_spec_is_the_problem_of_its_language_alone(place: Place) -> None:
    language = languages.load(place.prefix)["cobol"]
    (place.source / "kernel.json").write_text("{", encoding="utf-8")
    steps = Steps(place.prefix / "log", place.out)
    outcome = install(language, steps=steps, debian=Debian(steps, {}))
    assert "not JSON" in (outcome.problem or "")


def test_sessions_may_read_it_whatever_the_umask_was(place: Place) -> None:
    (place.source / "secretive.js").touch(mode=0o600)
    (place.source / "install.sh").chmod(0o700)
    place.install()
    assert (place.installed / "secretive.js").stat().st_mode & 0o777 == 0o644
    assert (place.installed / "install.sh").stat().st_mode & 0o777 == 0o755
    assert place.installed.stat().st_mode & 0o777 == 0o755


def test_the_scripts_environment_finds_what_a_session_finds_and_writes_byte_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PATH", "/somewhere/else")
    env = script_environment(Path("/env"))
    assert "PYTHONDONTWRITEBYTECODE" not in env
    assert env["PATH"] == f"{languages.search_path('/env')}:/somewhere/else"
    assert env["PYTHON"] == "/env/bin/python3"
