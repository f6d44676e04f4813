"""The languages kernelgate supports, and which of them can run here.

A language is a folder of `kernelspecs/` (docs/kernels.md). It is *ready* when `kernelgate setup` has copied that folder to `share/jupyter/kernels/NAME` of
kernelgate's environment and everything its `requires` names is there; otherwise it is *not_installed*, and `missing` says what for.

Nothing here starts a process, but for `Language.version`, and that only when it is called. Only the standard library is imported: set-up uses this module
before anything is installed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kernelgate.errors import LanguageNotInstalled, UnsupportedLanguage

__all__ = [
    "RECEIPT",
    "Language",
    "SpecError",
    "find",
    "kernels_dir",
    "load",
    "python_of",
    "read_receipt",
    "read_spec",
    "resolve",
    "search_path",
    "source_dir",
]

State = Literal["ready", "not_installed"]

DEFAULT_LANGUAGE = "python"
"""Listed first, and what an execution without a language runs."""

RECEIPT = ".kernelgate.json"
"""File of an installed folder: from which source set-up made it, and whether that was finished."""

# What a session finds its programs on, after its environment's own bin. The caller's own PATH is left out on purpose: a Node under somebody's home
# directory is neither visible nor readable inside a sandbox, so a kernel that needs it would count as ready and never start.
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_VERSION = re.compile(r"\d+(?:\.\d+)+")
_PROBE_TIMEOUT_S = 10.0  # a cold `java --version` on a busy two-core machine took 1.5 s
_FRESH_FOR_S = 2.0  # how soon a language that was uninstalled by hand is noticed; one just installed is seen at once

_log = logging.getLogger(__name__)
_versions: dict[tuple[str, ...], str | None] = {}


class SpecError(ValueError):
    """A folder's kernel.json is missing, is not JSON, or lacks what docs/kernels.md asks for; the message names the file and the key."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """One supported language, as its kernel.json describes it, and what was found on this machine.

    `probe_code` is a cell that shows whether the kernel works: `probe_text` is then its main result, or `probe_stdout` what it prints.
    `resource_dir` is the installed folder, or None; `source_dir` is the folder it is installed from, or None where only the installed one is left.
    `spec` is the whole kernel.json (the installed one where there is one), untouched: `argv` still has its `{connection_file}` and `{resource_dir}`.
    """

    name: str
    display_name: str
    language: str
    """Jupyter's name of the language: what a notebook says in its metadata."""
    aliases: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    interrupt_mode: Literal["signal", "message"]
    transport: Literal["ipc", "tcp"]
    fork: str | None
    version_probe: tuple[str, ...]
    requires_commands: tuple[str, ...]
    requires_files: tuple[str, ...]
    apt_always: tuple[str, ...]
    apt_if_missing: Mapping[str, tuple[str, ...]]
    install_script: str | None
    probe_code: str
    probe_text: str
    probe_stdout: str
    spec: Mapping[str, Any] = field(repr=False)
    prefix: Path
    source_dir: Path | None = None
    resource_dir: Path | None = None
    missing: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        return "not_installed" if self.missing else "ready"

    @property
    def ready(self) -> bool:
        return not self.missing

    @property
    def install_command(self) -> str:
        """The one command that makes this language ready, as it can be typed where this process was started."""
        return f"{_command(self.prefix)} setup {self.name}"

    @property
    def version(self) -> str | None:
        """The language's version (`3.11.7`), or None where the probe fails or says none.

        Blocks for as long as the probe takes, at most 10 s, the first time in this process; an event loop calls it in a thread.
        """
        argv = self._probe_argv()
        if not argv:
            return None
        if argv not in _versions:
            _versions[argv] = _probe(argv, search_path(self.prefix))
        return _versions[argv]

    def _probe_argv(self) -> tuple[str, ...]:
        if not self.version_probe:
            return ()
        head, *rest = (part.replace("{resource_dir}", str(self.resource_dir or "")) for part in self.version_probe)
        if head in ("python", "python3"):
            return (str(python_of(self.prefix)), *rest)
        found = shutil.which(head, path=search_path(self.prefix))
        return (found, *rest) if found else ()


def load(prefix: str | os.PathLike[str] | None = None) -> dict[str, Language]:
    """Reads every supported language, Python first, then by name.

    Args:
        prefix: the environment to look in; kernelgate's own by default.

    A kernel.json of our own that cannot be read is logged and left out; an installed one that cannot be read counts as not installed.
    """
    root = Path(prefix or sys.prefix)
    sources = {folder.name: folder for folder in _folders(source_dir())}
    installed = {folder.name: folder for folder in _folders(kernels_dir(root))}
    languages: dict[str, Language] = {}
    for name in sorted(sources.keys() | installed.keys(), key=lambda name: (name != DEFAULT_LANGUAGE, name)):
        language = _read(root, sources.get(name), installed.get(name))
        if language is not None:
            languages[name] = language
    return languages


_cache: dict[str, tuple[float, dict[str, Language]]] = {}


def resolve(name: str, prefix: str | os.PathLike[str] | None = None) -> Language:
    """The ready language that a caller's word means: a name or an alias, in any case, white space around it ignored.

    Cheap enough for every execution: what was read is kept for two seconds.

    Raises:
        UnsupportedLanguage: nothing of that name; the error lists those supported.
        LanguageNotInstalled: supported, not ready here; the error says how to get it.
    """
    root = os.fspath(prefix or sys.prefix)  # not a Path, which takes longer than all of this
    read_at, languages = _cache.get(root, (-_FRESH_FOR_S, {}))
    language = _match(name, languages)
    if language is None or not language.ready or time.monotonic() - read_at > _FRESH_FOR_S:
        languages = load(Path(root))
        _cache[root] = (time.monotonic(), languages)
        language = find(name, languages)
    if not language.ready:
        raise LanguageNotInstalled(language.name, language.install_command)
    return language


def find(name: str, languages: Mapping[str, Language]) -> Language:
    """As `resolve`, among languages already loaded, and whether ready or not.

    Raises:
        UnsupportedLanguage: nothing of that name; the error lists those supported.
    """
    language = _match(name, languages)
    if language is None:
        raise UnsupportedLanguage(name, list(languages))
    return language


def _match(name: str, languages: Mapping[str, Language]) -> Language | None:
    word = name.strip().lower()
    if word in languages:
        return languages[word]
    return next((language for language in languages.values() if word in language.aliases), None)


def source_dir() -> Path:
    """Where the folders to install from are: inside the package when it was installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    packaged = package / "_kernelspecs"
    return packaged if packaged.is_dir() else package.parent / "kernelspecs"


def kernels_dir(prefix: str | os.PathLike[str]) -> Path:
    """Where an environment's kernelspecs are installed, for us and for any other Jupyter front end."""
    return Path(prefix) / "share" / "jupyter" / "kernels"


def read_receipt(folder: Path) -> dict[str, Any]:
    """Set-up's note in an installed folder; empty where the folder was put there by something else."""
    try:
        receipt = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return receipt if isinstance(receipt, dict) else {}


def search_path(prefix: str | os.PathLike[str]) -> str:
    """The PATH of a session whose environment is `prefix`."""
    return f"{Path(prefix) / 'bin'}:{_SYSTEM_PATH}"


def python_of(prefix: str | os.PathLike[str]) -> Path:
    """The interpreter of the environment at `prefix`."""
    if Path(prefix) == Path(sys.prefix):
        return Path(sys.executable)
    return Path(prefix) / "bin" / "python3"


def read_spec(folder: Path, *, prefix: str | os.PathLike[str], source: Path | None = None, resource: Path | None = None) -> Language:
    """Parses and checks `folder`/kernel.json; `missing` is left empty.

    Raises:
        SpecError: the file is not what docs/kernels.md asks for.
    """
    file = folder / "kernel.json"
    try:
        spec = json.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SpecError(f"{file}: {exc.strerror}") from exc
    except ValueError as exc:
        raise SpecError(f"{file}: not JSON: {exc}") from exc
    facts = _Facts(file, spec)
    ours = _Facts(file, facts.get("metadata", dict, {}).get("kernelgate"), "metadata.kernelgate.")
    requires = ours.sub("requires")
    install = ours.sub("install")
    apt = install.sub("apt")
    probe = ours.sub("probe")
    if_missing = apt.sub("if_missing")
    return Language(
        name=folder.name,
        display_name=facts.get("display_name", str),
        language=facts.get("language", str),
        aliases=tuple(alias.lower() for alias in ours.strings("aliases")),
        argv=facts.strings("argv", required=True),
        env={key: str(value) for key, value in facts.get("env", dict, {}).items()},
        interrupt_mode=facts.one_of("interrupt_mode", "signal", "message"),
        transport=ours.one_of("transport", "ipc", "tcp"),
        fork=ours.get("fork", (str, type(None)), None),
        version_probe=ours.strings("version_probe"),
        requires_commands=requires.strings("commands"),
        requires_files=requires.strings("files"),
        apt_always=apt.strings("always"),
        apt_if_missing={command: if_missing.strings(command) for command in apt.get("if_missing", dict, {})},
        install_script=install.get("script", (str, type(None)), None),
        probe_code=probe.get("code", str, ""),
        probe_text=probe.get("text", str, ""),
        probe_stdout=probe.get("stdout", str, ""),
        spec=spec,
        prefix=Path(prefix),
        source_dir=source,
        resource_dir=resource,
    )


class _Facts:
    """A JSON object with checked access, so that a wrong kernel.json is an error that names its key."""

    def __init__(self, file: Path, values: object, path: str = "") -> None:
        if not isinstance(values, dict):
            raise SpecError(f"{file}: {path.rstrip('.') or 'the file'} must be an object")
        self._file, self._values, self._path = file, values, path

    def get(self, key: str, kind: Any, default: Any = ...) -> Any:
        value = self._values.get(key, default)
        if value is ...:
            raise SpecError(f"{self._file}: {self._path}{key} is missing")
        if not isinstance(value, kind):
            raise SpecError(f"{self._file}: {self._path}{key} has the wrong type: {type(value).__name__}")
        return value

    def strings(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        values = self.get(key, list, ... if required else [])
        if not all(isinstance(value, str) for value in values):
            raise SpecError(f"{self._file}: {self._path}{key} must be a list of strings")
        return tuple(values)

    def one_of(self, key: str, *allowed: Any) -> Any:
        value = self._values.get(key, allowed[0])
        if value not in allowed:
            raise SpecError(f"{self._file}: {self._path}{key} must be one of {', '.join(allowed)}, not {value!r}")
        return value

    def sub(self, key: str) -> _Facts:
        return _Facts(self._file, self.get(key, dict, {}), f"{self._path}{key}.")


def _folders(root: Path) -> list[Path]:
    try:
        return [folder for folder in root.iterdir() if not folder.name.startswith(".") and (folder / "kernel.json").is_file()]
    except OSError:
        return []


def _read(prefix: Path, source: Path | None, installed: Path | None) -> Language | None:
    if installed is not None:
        try:
            language = read_spec(installed, prefix=prefix, source=source, resource=installed)
        except SpecError as exc:
            # Jupyter's own folders (ipykernel's `python3`) have no facts of ours: they are none of our business.
            if source is not None:
                _log.warning("the installed kernelspec is not usable: %s", exc)
        else:
            return replace(language, missing=_requirements(language))
    if source is None:
        return None
    try:
        language = read_spec(source, prefix=prefix, source=source)
    except SpecError as exc:
        _log.warning("a language is left out: %s", exc)
        return None
    return replace(language, missing=("its kernelspec", *_requirements(language)))


def _requirements(language: Language) -> tuple[str, ...]:
    path = search_path(language.prefix)
    commands = (f"command {command}" for command in language.requires_commands if shutil.which(command, path=path) is None)
    if language.resource_dir is None:
        return tuple(commands)
    # An absolute path stays absolute under `/`.
    absent = (f"file {file}" for file in language.requires_files if not (language.resource_dir / file).exists())
    unfinished = () if read_receipt(language.resource_dir).get("finished", True) else ("the rest of its installation, which failed",)
    return (*commands, *absent, *unfinished)


def _probe(argv: tuple[str, ...], path: str) -> str | None:
    try:
        done = subprocess.run(  # its arguments come from our own kernel.json
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
            env={"PATH": path, "LANG": "C.UTF-8"},
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        _log.info("the version of %s is not known: %s", argv[0], exc)
        return None
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    found = _VERSION.search(lines[0]) if lines else None
    return found.group() if found else None


def _command(prefix: Path) -> str:
    """How the `kernelgate` of this environment is typed here: its bare name where PATH finds that one, else its path, short where it can be."""
    program = prefix / "bin" / "kernelgate"
    if shutil.which("kernelgate") == str(program):
        return "kernelgate"
    here = Path.cwd()
    is_below = program.is_relative_to(here) and here not in (program.parent, Path("/"))
    return str(program.relative_to(here) if is_below else program)
