from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernelgate import languages
from kernelgate.errors import LanguageNotInstalled, UnsupportedLanguage


def spec(**ours: Any) -> dict[str, Any]:
    return {"argv": ["cobol", "{connection_file}"], "display_name": "COBOL", "language": "cobol", "metadata": {"kernelgate": ours}}


def write(folder: Path, content: dict[str, Any] | str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.json").write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "kernelspecs"
    root.mkdir()
    monkeypatch.setattr(languages, "source_dir", lambda: root)
    return root


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    (tmp_path / "env" / "bin").mkdir(parents=True)
    return tmp_path / "env"


def program(prefix: Path, name: str, body: str) -> None:
    file = prefix / "bin" / name
    file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    file.chmod(0o755)


def test_our_own_kernelspecs_are_sound_and_no_word_means_two_languages() -> None:
    own = [languages.read_spec(file.parent, prefix="/") for file in languages.source_dir().glob("*/kernel.json")]
    words = [word for language in own for word in (language.name, *language.aliases)]
    assert "python" in words
    assert len(words) == len(set(words))
    assert all(language.probe_code and (language.probe_text or language.probe_stdout) for language in own)


def test_a_source_alone_is_not_installed(sources: Path, prefix: Path) -> None:
    write(sources / "cobol", spec(requires={"commands": ["no-such-cobc"]}))
    language = languages.load(prefix)["cobol"]
    assert (language.state, language.resource_dir, language.source_dir) == ("not_installed", None, sources / "cobol")
    assert language.missing == ("its kernelspec", "command no-such-cobc")
    assert language.install_command.endswith("bin/kernelgate setup cobol")


def test_ready_when_all_that_is_required_is_there(sources: Path, prefix: Path) -> None:
    requires = {"commands": ["cobc"], "files": ["lib/x.so", str(prefix / "absolute")]}
    write(sources / "cobol", spec(requires=requires))
    installed = write(languages.kernels_dir(prefix) / "cobol", spec(requires=requires))
    assert languages.load(prefix)["cobol"].missing == ("command cobc", "file lib/x.so", f"file {prefix / 'absolute'}")
    program(prefix, "cobc", "")
    (prefix / "absolute").touch()
    (installed / "lib").mkdir()
    (installed / "lib" / "x.so").touch()
    language = languages.load(prefix)["cobol"]
    assert (language.state, language.ready, language.missing, language.resource_dir) == ("ready", True, (), installed)


def test_jupyters_own_kernelspecs_are_left_alone(sources: Path, prefix: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(languages.kernels_dir(prefix) / "python3", {"argv": ["python"], "display_name": "Python 3", "language": "python"})
    assert languages.load(prefix) == {}
    assert not caplog.records


def test_a_broken_source_is_left_out_and_said(sources: Path, prefix: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(sources / "broken", "{")
    write(sources / "cobol", spec())
    assert list(languages.load(prefix)) == ["cobol"]
    assert "broken/kernel.json: not JSON" in caplog.text


def test_a_broken_installed_folder_counts_as_not_installed(sources: Path, prefix: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(sources / "cobol", spec())
    write(languages.kernels_dir(prefix) / "cobol", "[]")
    assert languages.load(prefix)["cobol"].missing == ("its kernelspec",)
    assert "must be an object" in caplog.text


def test_python_comes_first(sources: Path, prefix: Path) -> None:
    for name in ("r", "bash", "python"):
        write(sources / name, spec())
    assert list(languages.load(prefix)) == ["python", "bash", "r"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"display_name": "X", "language": "x", "metadata": {"kernelgate": {}}}, "argv is missing"),
        ({**spec(), "argv": "cobol"}, "argv has the wrong type: str"),
        ({**spec(), "argv": [1]}, "argv must be a list of strings"),
        ({**spec(), "metadata": {}}, "metadata.kernelgate must be an object"),
        ({**spec(), "interrupt_mode": "shout"}, "interrupt_mode must be one of signal, message"),
        (spec(transport="udp"), "metadata.kernelgate.transport must be one of ipc, tcp"),
        (spec(requires={"commands": {}}), "metadata.kernelgate.requires.commands has the wrong type"),
        (spec(install={"apt": {"if_missing": {"node": "nodejs"}}}), "metadata.kernelgate.install.apt.if_missing.node has the wrong type"),
    ],
)
def test_a_wrong_spec_names_its_key(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(languages.SpecError, match=message):
        languages.read_spec(write(tmp_path / "x", content), prefix=tmp_path)


def test_a_spec_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(languages.SpecError, match="No such file"):
        languages.read_spec(tmp_path, prefix=tmp_path)


@pytest.mark.parametrize("word", ["cobol", "COBOL", "  Cobol\n", "cbl", "CBL"])
def test_resolve_knows_names_and_aliases_in_any_case(sources: Path, prefix: Path, word: str) -> None:
    write(languages.kernels_dir(prefix) / "cobol", spec(aliases=["cbl"]))
    assert languages.resolve(word, prefix).name == "cobol"


def test_resolve_says_what_is_supported_and_how_to_get_what_is_not_installed(sources: Path, prefix: Path) -> None:
    write(sources / "cobol", spec())
    with pytest.raises(UnsupportedLanguage, match="'perl' is not supported; supported are: cobol"):
        languages.resolve("perl", prefix)
    with pytest.raises(LanguageNotInstalled, match="setup cobol"):
        languages.resolve("cobol", prefix)
    write(languages.kernels_dir(prefix) / "cobol", spec())
    assert languages.resolve("cobol", prefix).ready, "what was just installed is seen at once"


def test_version_is_probed_with_the_path_of_a_session(prefix: Path) -> None:
    folder = languages.kernels_dir(prefix) / "cobol"
    program(prefix, "cobc", 'echo "cobc (GnuCOBOL) 3.1.2.0 $HOME"; echo 9.9')
    write(folder, spec(version_probe=["cobc", "--version"]))
    assert languages.load(prefix)["cobol"].version == "3.1.2.0"


@pytest.mark.parametrize("body", ["echo no number", "exit 1", ""])
def test_a_version_that_cannot_be_had_is_none(prefix: Path, body: str) -> None:
    program(prefix, "cobc", body)
    write(languages.kernels_dir(prefix) / "cobol", spec(version_probe=["cobc", "--version"]))
    assert languages.load(prefix)["cobol"].version is None


def test_no_probe_or_no_program_is_no_version(prefix: Path) -> None:
    write(languages.kernels_dir(prefix) / "a", spec())
    write(languages.kernels_dir(prefix) / "b", spec(version_probe=["no-such-program"]))
    known = languages.load(prefix)
    assert (known["a"].version, known["b"].version) == (None, None)


def test_python_is_the_environments_own(prefix: Path) -> None:
    program(prefix, "python3", "echo Python 9.8.7")
    write(languages.kernels_dir(prefix) / "python", spec(version_probe=["python", "--version"]))
    assert languages.load(prefix)["python"].version == "9.8.7"


def test_the_install_command_is_as_short_as_it_can_be(sources: Path, prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(sources / "cobol", spec())
    program(prefix, "kernelgate", "")
    language = languages.load(prefix)["cobol"]
    monkeypatch.chdir("/")
    assert language.install_command == f"{prefix}/bin/kernelgate setup cobol"
    monkeypatch.chdir(prefix.parent)
    assert language.install_command == "env/bin/kernelgate setup cobol"
    monkeypatch.chdir(prefix / "bin")
    assert language.install_command == f"{prefix}/bin/kernelgate setup cobol"
    monkeypatch.setenv("PATH", str(prefix / "bin"))
    assert language.install_command == "kernelgate setup cobol"
