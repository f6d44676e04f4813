"""Installs one language: Debian packages, the folder, its script, and a check that what it requires is there.

The folder is copied whole beside its place and then swapped in, so that a kernel started meanwhile sees the old one or the new one. A receipt in the
installed folder says from which source it was made and whether its script ended well; while that source is unchanged nothing is copied or run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelgate import languages
from kernelgate.languages import Language
from kernelgate.setup.debian import Debian, NeedsRoot
from kernelgate.setup.step import StepFailed, Steps

__all__ = ["Outcome", "install", "script_environment"]

# Made beside the sources by somebody who tried the kernel in the checkout; never part of a source.
_NOT_SOURCE = frozenset({"node_modules", "__pycache__", languages.RECEIPT})

# These would make what a script installs slow (no .pyc files) or foreign (another environment's modules).
_UNWANTED_ENV = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Outcome:
    """What became of one language. `problem` is None where it is ready; `tail` is the end of a failed program's output."""

    name: str
    problem: str | None = None
    tail: str = ""
    changed: bool = False


def install(language: Language, *, steps: Steps, debian: Debian, force: bool = False) -> Outcome:
    """Makes one language ready; never raises for what is the machine's or the script's fault.

    Args:
        language: as `kernelgate.languages.load` gave it.
        force: copy and run again even where nothing changed.
    """
    name, source = language.name, language.source_dir
    if source is None:
        return Outcome(name, None if language.ready else f"missing: {', '.join(language.missing)}, and its source is gone")
    try:
        wanted = languages.read_spec(source, prefix=language.prefix, source=source)
        digest = _digest(source)
        folder = languages.kernels_dir(language.prefix) / name
        if not force and language.ready and languages.read_receipt(folder).get("source") == digest:
            return Outcome(name)
        debian.install(_packages(wanted), f"{name}: Debian packages")
        _copy(source, folder, {"source": digest, "finished": False})
        if wanted.install_script:
            command = ["bash", wanted.install_script]
            steps.run(f"{name}: {wanted.install_script}", command, cwd=folder, env=script_environment(language.prefix))
        _write_receipt(folder, {"source": digest, "finished": True})
    except StepFailed as exc:
        return Outcome(name, str(exc), exc.tail)
    except (languages.SpecError, NeedsRoot, OSError) as exc:
        return Outcome(name, str(exc))
    after = languages.load(language.prefix)[name]
    return Outcome(name, f"missing: {', '.join(after.missing)}" if after.missing else None, changed=True)


def script_environment(prefix: Path) -> dict[str, str]:
    """The environment of install.sh: the caller's, with the programs a session will find first on PATH, and PYTHON as this environment's interpreter."""
    env = {key: value for key, value in os.environ.items() if key not in _UNWANTED_ENV}  # noqa: TID251 - it is passed on, not read
    env["PATH"] = f"{languages.search_path(prefix)}:{env.get('PATH', '')}"
    env["PYTHON"] = str(languages.python_of(prefix))
    return env


def _packages(language: Language) -> list[str]:
    path = languages.search_path(language.prefix)
    conditional = (packages for command, packages in language.apt_if_missing.items() if shutil.which(command, path=path) is None)
    return [*language.apt_always, *(package for packages in conditional for package in packages)]


def _source_files(source: Path) -> Iterator[Path]:
    for entry in sorted(source.iterdir()):
        if entry.name in _NOT_SOURCE or entry.suffix in {".pyc", ".class"}:
            continue
        if entry.is_dir():
            yield from _source_files(entry)
        else:
            yield entry


def _digest(source: Path) -> str:
    """Changes when a name, a content or an executable bit of the source does."""
    digest = hashlib.sha256()
    for file in _source_files(source):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(source)}\0{os.access(file, os.X_OK):d}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _write_receipt(folder: Path, receipt: dict[str, Any]) -> None:
    (folder / languages.RECEIPT).write_text(json.dumps(receipt) + "\n", encoding="utf-8")


def _copy(source: Path, folder: Path, receipt: dict[str, Any]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "fresh"
        for file in _source_files(source):
            target = fresh / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        _write_receipt(fresh, receipt)
        # Sessions read it under uids of their own, whatever umask made the checkout.
        subprocess.run(["chmod", "-R", "u+rwX,go+rX,go-w", str(fresh)], check=True)
        with suppress(FileNotFoundError):
            folder.rename(Path(scratch) / "old")
        fresh.rename(folder)
