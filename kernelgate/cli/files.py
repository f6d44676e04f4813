"""`kernelgate cp` and `kernelgate ls`: files of sessions."""

from __future__ import annotations

import json
import posixpath
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kernelgate._tar import tarfile
from kernelgate.cli import _server
from kernelgate.cli._parser import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from kernelgate.sdk import Client


def main(options: argparse.Namespace) -> int:
    """Does one of the two."""
    with _server.client(options) as client:
        if options.command == "cp":
            _copy(client, options)
        else:
            _list(client, options)
    return 0


def _remote(text: str) -> tuple[str, str] | None:
    """SESSION:PATH, or None for a path of this machine (which may have a colon behind a slash)."""
    session_id, colon, path = text.partition(":")
    return (session_id, path or ".") if colon and session_id and "/" not in session_id else None


def _copy(client: Client, options: argparse.Namespace) -> None:
    source, destination = _remote(options.source), _remote(options.destination)
    if (source is None) == (destination is None):
        message = "one of the two must be SESSION:PATH, the other a path here"
        raise UsageError(message)
    if options.recursive:
        _copy_tree(client, options, source, destination)
        return
    if source is not None:
        local = Path(options.destination)
        target = local / posixpath.basename(source[1].rstrip("/")) if local.is_dir() else local
        try:
            with _progress(f"{source[1]} -> {target}") as on_progress:
                client.sessions.get(source[0]).file_system.download_file(source[1], target, on_progress=on_progress)
        except OSError as error:
            raise UsageError(str(error)) from error
    if destination is not None:
        local = Path(options.source)
        if not local.is_file():
            message = f"{options.source} is not a file"
            raise UsageError(message)
        session_id, path = destination
        if path.endswith("/") or path == ".":
            path = posixpath.join(path, local.name)
        with _progress(f"{local} -> {path}") as on_progress:
            client.sessions.get(session_id).file_system.upload_file(local, path, on_progress=on_progress)


def _copy_tree(client: Client, options: argparse.Namespace, source: tuple[str, str] | None, destination: tuple[str, str] | None) -> None:
    """What is in a directory, into another one, which is made: by way of an archive."""
    with tempfile.TemporaryDirectory(prefix="kernelgate-") as held:
        archive = Path(held, "tree.tar.gz")
        if source is not None:
            with _progress(f"{source[1]} -> {options.destination}") as on_progress:
                client.sessions.get(source[0]).file_system.download_archive(source[1], archive, on_progress=on_progress)
            # What comes out of a session is nobody's to trust: nothing of it leads out of the directory.
            try:
                with tarfile.open(archive) as packed:
                    packed.extractall(options.destination, filter="data")
            except (OSError, tarfile.TarError) as error:
                raise UsageError(str(error)) from error
        if destination is not None:
            if not Path(options.source).is_dir():
                message = f"{options.source} is not a directory"
                raise UsageError(message)
            with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
                packed.add(options.source, arcname=".")
            with _progress(f"{options.source} -> {destination[1]}") as on_progress:
                client.sessions.get(destination[0]).file_system.upload_archive(archive, destination[1], on_progress=on_progress)


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error while a file is on its way, if that is a terminal; gone when it has arrived."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415  (only for who looks)
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(_safe(title), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _list(client: Client, options: argparse.Namespace) -> None:
    session_id, path = _remote(options.where) or (options.where, ".")
    found = client.sessions.get(session_id).file_system.list_directory(path, depth=options.depth)
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    width = max((len(str(one.size)) for one in found), default=0)
    for one in found:
        link = f" -> {one.target}" if one.target is not None else "/" if one.is_directory else ""
        shown = one.name if options.depth == 1 else one.path
        print(f"{one.mode}  {one.size:>{width}}  {one.modified_at[:19].replace('T', ' ')}  {_safe(shown + link)}")


def _safe(text: str) -> str:
    """A name may have line feeds and control characters, which are the session's and not for this terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
