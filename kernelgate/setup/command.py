"""The command line of `kernelgate setup`."""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kernelgate import languages
from kernelgate.errors import UnsupportedLanguage
from kernelgate.languages import Language
from kernelgate.setup.debian import Debian, NeedsRoot
from kernelgate.setup.install import Outcome, install, script_environment
from kernelgate.setup.step import StepFailed, Steps

__all__ = ["main"]

#: The system call filter, the file systems of workspaces, the network of sessions that may have one.
_SANDBOX_PACKAGES = ("libseccomp2", "e2fsprogs", "passt", "iproute2")


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the named languages ready, or all of them.

    Returns:
        0 when every one of them is ready, 1 when some are not, 2 for a wrong command line.
    """
    parser = argparse.ArgumentParser(
        prog="kernelgate setup",
        description="Install what languages need and their kernels, into kernelgate's own environment. Safe to repeat; Debian packages need root.",
    )
    parser.add_argument("language", nargs="*", help="languages to make ready (default: all)")
    parser.add_argument("--list", action="store_true", help="only say which languages are ready, and what the others lack")
    parser.add_argument("--force", action="store_true", help="install again even where nothing changed")
    options = parser.parse_args(argv)
    prefix = Path(sys.prefix)
    known = languages.load(prefix)
    try:
        chosen = [languages.find(name, known) for name in options.language] or list(known.values())
    except UnsupportedLanguage as exc:
        parser.error(str(exc))
    if options.list:
        _print_list(chosen)
        return 0
    log = prefix / "var" / "log" / "kernelgate-setup.log"
    with _alone(prefix):
        outcomes = _install(chosen, log, prefix, force=options.force)
    _print_outcomes(outcomes, log)
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def _install(chosen: Sequence[Language], log: Path, prefix: Path, *, force: bool) -> list[Outcome]:
    steps = Steps(log)
    debian = Debian(steps, script_environment(prefix))
    outcomes = []
    try:
        debian.install(_SANDBOX_PACKAGES, "Debian packages of the sandbox")
    except (NeedsRoot, StepFailed) as exc:
        steps.say(f"  sandbox: {exc}")  # the server says at its start what it cannot do without
    for language in chosen:
        began = time.monotonic()
        outcome = install(language, steps=steps, debian=debian, force=force)
        if outcome.changed or outcome.problem:
            verdict = "not installed" if outcome.problem else "ready"
            steps.say(f"  {language.display_name}: {verdict} after {time.monotonic() - began:.1f} s")
        outcomes.append(outcome)
    return outcomes


@contextmanager
def _alone(prefix: Path) -> Iterator[None]:
    """Two set-ups of one environment follow each other."""
    folder = languages.kernels_dir(prefix)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".kernelgate-setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up of this environment is running; waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _print_list(chosen: Sequence[Language]) -> None:
    for language in chosen:
        if language.ready:
            print(f"{language.name:<12} ready           {language.version or ''}")
        else:
            print(
                f"{language.name:<12} not installed   missing: {', '.join(language.missing)}; install it with: {language.install_command}"
            )


def _print_outcomes(outcomes: Sequence[Outcome], log: Path) -> None:
    after = languages.load()
    ready = [
        f"{after[outcome.name].display_name} {after[outcome.name].version or ''}".strip() for outcome in outcomes if outcome.problem is None
    ]
    if ready:
        print(f"Ready: {', '.join(ready)}.")
    for outcome in outcomes:
        if outcome.problem:
            print(f"Not installed: {outcome.name}: {outcome.problem}.")
            if outcome.tail:
                print("\n".join(f"    | {line}" for line in outcome.tail.splitlines()))
                print(f"    all of its output is in {log}")
            print(f"    To try again: {after[outcome.name].install_command}")
