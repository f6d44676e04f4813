from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kernelgate import languages, setup


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prefix, sources = tmp_path / "env", tmp_path / "kernelspecs"
    for name, script in (("cobol", "exit 0"), ("fortran", "echo no compiler; exit 7")):
        (sources / name).mkdir(parents=True)
        facts = {"aliases": [name[:3]], "install": {"script": "install.sh"}}
        spec = {"argv": [name], "display_name": name.title(), "language": name, "metadata": {"kernelgate": facts}}
        (sources / name / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        (sources / name / "install.sh").write_text(script, encoding="utf-8")
    monkeypatch.setattr(languages, "source_dir", lambda: sources)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    return prefix


def test_goes_on_with_the_others_and_says_what_failed(prefix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.main([]) == 1
    out = capsys.readouterr().out
    assert "Ready: Cobol." in out
    assert "Not installed: fortran: fortran: install.sh: exit status 7." in out
    assert "    | no compiler" in out
    assert f"To try again: {languages.load()['fortran'].install_command}" in out


def test_only_what_was_named_by_any_of_its_names(prefix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.main(["COB"]) == 0
    assert "fortran" not in capsys.readouterr().out
    assert not (languages.kernels_dir(prefix) / "fortran").exists()


def test_an_unknown_language_is_refused_before_anything_is_done(prefix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        setup.main(["cobol", "perl"])
    assert caught.value.code == 2
    assert "supported are: cobol, fortran" in capsys.readouterr().err
    assert not languages.kernels_dir(prefix).exists()


def test_list_changes_nothing(prefix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.main(["--list"]) == 0
    assert "cobol        not installed   missing: its kernelspec; install it with:" in capsys.readouterr().out
    assert not prefix.exists()
    setup.main(["cobol"])
    capsys.readouterr()
    setup.main(["--list", "cobol"])
    assert capsys.readouterr().out.startswith("cobol        ready")
