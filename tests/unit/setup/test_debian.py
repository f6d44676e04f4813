from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from kernelgate.setup.debian import Debian, NeedsRoot
from kernelgate.setup.step import StepFailed, Steps

# `dpkg-query` and `apt-get` as the real ones behave: the one prints what it knows and exits with 1 if anything is unknown, the other records its arguments.
DPKG_QUERY = """
shift 2; status=0
for package; do if grep -qx "$package" "$STATE/installed"; then echo "$package installed"; else status=1; fi; done
[ "$(cat "$STATE/removed")" = "" ] || echo "$(cat "$STATE/removed") config-files"
exit $status
"""
APT_GET = """
echo "$@" >>"$STATE/calls"
case "$*" in *update*) exit "$(cat "$STATE/update")";; *broken*) echo "E: broken"; exit 100;; esac
"""


class Machine:
    """A machine with a package manager that only pretends."""

    def __init__(self, root: Path) -> None:
        self.state = root / "state"
        self.bin = root / "bin"
        for folder in (self.state, self.bin):
            folder.mkdir()
        for name, body in (("dpkg-query", DPKG_QUERY), ("apt-get", APT_GET)):
            (self.bin / name).write_text(f"#!/bin/sh{body}", encoding="utf-8")
            (self.bin / name).chmod(0o755)
        for name, content in (("installed", "libc6\n"), ("removed", ""), ("update", "0"), ("calls", "")):
            (self.state / name).write_text(content, encoding="utf-8")
        self.out = io.StringIO()
        env = {"STATE": str(self.state), "PATH": f"{self.bin}:/usr/bin:/bin"}
        self.debian = Debian(Steps(root / "log", self.out), env)

    def calls(self) -> list[str]:
        return (self.state / "calls").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{machine.bin}:{os.defpath}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return machine


def test_nothing_missing_calls_nothing(machine: Machine) -> None:
    machine.debian.install([], "x")
    machine.debian.install(["libc6"], "x")
    assert machine.calls() == []


def test_the_lists_are_fetched_once_and_only_what_is_missing_is_installed(machine: Machine) -> None:
    machine.debian.install(["r-base", "libc6", "r-base"], "r")
    machine.debian.install(["nodejs"], "js")
    update, first, second = machine.calls()
    assert update.endswith("update")
    assert first.endswith("install -y --no-install-recommends r-base")
    assert second.endswith("install -y --no-install-recommends nodejs")
    assert "r: r-base" in machine.out.getvalue()


def test_a_removed_package_with_its_configuration_left_counts_as_missing(machine: Machine) -> None:
    (machine.state / "removed").write_text("nodejs", encoding="utf-8")
    assert machine.debian.missing(["nodejs", "libc6"]) == ["nodejs"]


def test_going_on_with_the_lists_that_are_there(machine: Machine) -> None:
    (machine.state / "update").write_text("100", encoding="utf-8")
    machine.debian.install(["nodejs"], "js")
    assert "going on with the lists that are there" in machine.out.getvalue()
    assert machine.calls()[-1].endswith("nodejs")


def test_a_package_that_cannot_be_installed_fails_the_step(machine: Machine) -> None:
    with pytest.raises(StepFailed) as caught:
        machine.debian.install(["broken"], "x")
    assert caught.value.tail.endswith("E: broken")


def test_who_is_not_root_is_told_the_command(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NeedsRoot, match="as root: apt-get install --no-install-recommends nodejs npm"):
        machine.debian.install(["nodejs", "libc6", "npm"], "js")
    assert machine.calls() == []


def test_a_system_without_apt_misses_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.debian.missing(["nodejs"]) == []


def test_a_long_list_is_cut_in_the_line_but_not_in_the_call(machine: Machine) -> None:
    packages = [f"package-number-{n}" for n in range(9)]
    machine.debian.install(packages, "x")
    assert "package-number-0 package-number-1 ..." in machine.out.getvalue()
    assert machine.calls()[-1].endswith(" ".join(packages))
