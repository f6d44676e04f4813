"""Debian packages: which are there, and how the others get there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping

from kernelgate.setup.step import StepFailed, Steps

__all__ = ["Debian", "NeedsRoot"]

# Another apt-get may be at work on the machine (unattended upgrades, a second `make`): wait for it, up to five minutes.
_APT = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300")


class NeedsRoot(Exception):
    """Packages are missing and this process may not install them; the message is the command for one who may."""

    def __init__(self, packages: Iterable[str]) -> None:
        super().__init__(f"as root: apt-get install --no-install-recommends {' '.join(packages)}")


class Debian:
    """The package manager of this machine. The package lists are fetched at most once."""

    def __init__(self, steps: Steps, env: Mapping[str, str]) -> None:
        self._steps = steps
        self._env = {**env, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        self._is_updated = False

    def install(self, packages: Iterable[str], title: str) -> None:
        """Installs those of the packages that are missing. Does nothing on a system without apt: what a language requires is checked anyway.

        Raises:
            NeedsRoot: some are missing, and only root may install them.
            StepFailed: apt-get failed.
        """
        wanted = self.missing(packages)
        if not wanted:
            return
        if os.geteuid() != 0:
            raise NeedsRoot(wanted)
        self._update()
        self._steps.run(f"{title}: {_shortened(wanted)}", [*_APT, "install", "-y", "--no-install-recommends", *wanted], env=self._env)

    def missing(self, packages: Iterable[str]) -> list[str]:
        """Those of the packages that are not installed, in order; none on a system without apt."""
        wanted = list(dict.fromkeys(packages))
        if not wanted or not shutil.which("apt-get") or not shutil.which("dpkg-query"):
            return []
        done = subprocess.run(
            ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", *wanted],
            capture_output=True,
            text=True,
            check=False,  # 1 only says that some are not there
            env=self._env,
        )
        there = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
        return [package for package in wanted if package not in there]

    def _update(self) -> None:
        if self._is_updated:
            return
        self._is_updated = True
        try:
            self._steps.run("Debian's package lists", [*_APT, "update"], env=self._env)
        except StepFailed as exc:
            # Older lists may well do; if they do not, the install that follows says so.
            self._steps.say(f"  {exc}: going on with the lists that are there")


def _shortened(packages: list[str]) -> str:
    text = " ".join(packages)
    return text if len(text) <= 40 else f"{text[:40].rsplit(' ', 1)[0]} ..."
