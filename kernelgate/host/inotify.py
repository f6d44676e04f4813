"""Watching a directory: the system's own notices, numbered, as lines of JSON.

Nothing is lost in silence. The system keeps notices that were not read yet (16384 by default) and says when it had to drop some: that becomes an `overflow`, after which a
watcher should list again.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import struct
import time
from typing import TYPE_CHECKING, Any

from kernelgate.host.worker import exact

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernelgate.host.worker import Port

_MODIFY, _ATTRIB, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
_UNMOUNT, _OVERFLOW, _IGNORED, _ISDIR = 0x2000, 0x4000, 0x8000, 0x40000000
_ONLYDIR, _DONT_FOLLOW, _EXCL_UNLINK = 0x01000000, 0x02000000, 0x04000000
_MASK = _MODIFY | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _EXCL_UNLINK
_HEAD = struct.Struct("iIII")
#: The two halves of a move come one right after the other; a half whose other does not come so soon went out of what is watched, or came into it.
_MOVE_WAIT_MS = 20
_READ_BYTES = 256 * 1024
_LINES_PER_FRAME = 256

_libc = ctypes.CDLL(None, use_errno=True)


class _Watch:
    def __init__(self, port: Port, top: str, *, recursive: bool) -> None:
        self._port, self._top, self._recursive = port, top, recursive
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, "no more watches can be made: " + os.strerror(number))
        self._directories: dict[int, str] = {}
        #: Directories that were told, and had another name already when they should have been watched.
        self._missed: set[str] = set()
        self._seq = 0
        self._lines: list[bytes] = []
        self._moved: dict[int, tuple[str, bool]] = {}
        self._ended = False

    def _add(self, path: str, name: str, *, at: int | None = None, new: bool = False, follow: bool = False) -> None:
        """Watches the directory `name` (beside the open directory `at`), known as `path`, and with `recursive` all below it. Raises OSError only with `follow`.

        With `new` all that is in it is told: it was made before it was watched. The way down goes by open directories, not by names: one that is given another name on
        the way is watched all the same, and the notice of its move, read later, brings what is known of it to the new name.
        """
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW), dir_fd=at)
        except OSError:
            if follow:
                raise
            self._missed.add(path)
            return
        try:
            watched = _libc.inotify_add_watch(self._fd, f"/proc/self/fd/{fd}".encode(), _MASK | _ONLYDIR)
            if watched < 0:
                number = ctypes.get_errno()
                if follow:
                    raise OSError(number, os.strerror(number), path)
                if number == errno.ENOSPC:
                    # The system's watches are used up: what happens below is not seen.
                    self._event("overflow", path, is_directory=True)
                return
            known, self._directories[watched] = self._directories.get(watched), path
            if self._recursive and known != path:
                self._add_below(fd, path, new=new)
        finally:
            os.close(fd)

    def _add_below(self, fd: int, path: str, *, new: bool) -> None:
        try:
            with os.scandir(fd) as scan:
                found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in scan)
        except OSError:
            return
        for name, is_directory in found:
            below = os.path.join(path, name)
            if new:
                self._event("create", below, is_directory=is_directory)
            if is_directory:
                self._add(below, name, at=fd, new=new)

    def _event(self, kind: str, path: str, *, is_directory: bool, source: str | None = None) -> None:
        self._seq += 1
        event: dict[str, Any] = {
            "seq": self._seq, "type": kind, "path": os.fsencode(path).decode("utf-8", "replace"), "path_type": "directory" if is_directory else "file",
            "source": None if source is None else os.fsencode(source).decode("utf-8", "replace"), "time": round(time.time(), 3), **exact(path=path, source=source),
        }  # fmt: skip
        self._lines.append(json.dumps(event, separators=(",", ":")).encode() + b"\n")

    def _send(self) -> None:
        # Whole lines in each frame.
        for at in range(0, len(self._lines), _LINES_PER_FRAME):
            self._port.send({"data": True}, b"".join(self._lines[at : at + _LINES_PER_FRAME]))
        self._lines.clear()

    def run(self) -> None:
        """Until the host hangs up, or the directory is gone."""
        self._add(self._top, self._top, follow=True)
        self._event("watching", self._top, is_directory=True)
        self._send()
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._port.fileno(), select.POLLIN | select.POLLHUP)
        while not self._ended:
            ready = poll.poll(_MOVE_WAIT_MS if self._moved else None)
            if any(fd == self._port.fileno() for fd, _ in ready):
                return  # the host says nothing more but that it is over
            if ready:
                self._read()
            else:
                self._moved_away()
            self._send()

    def _read(self) -> None:
        data = os.read(self._fd, _READ_BYTES)
        at, last = 0, ("", "")
        while at < len(data):
            watched, mask, cookie, size = _HEAD.unpack_from(data, at)
            name = os.fsdecode(data[at + _HEAD.size : at + _HEAD.size + size].rstrip(b"\0"))
            at += _HEAD.size + size
            if mask & _OVERFLOW:
                self._event("overflow", self._top, is_directory=True)
                continue
            directory = self._directories.get(watched)
            if directory is None:
                continue
            path = os.path.join(directory, name) if name else directory
            if mask & _IGNORED:
                self._directories.pop(watched, None)
            elif not name:
                self._self(mask, directory)
            else:
                last = self._one(mask, cookie, path, last)

    def _self(self, mask: int, directory: str) -> None:
        if directory == self._top and mask & (_DELETE_SELF | _MOVE_SELF | _UNMOUNT):
            self._event("delete", directory, is_directory=True)
            self._ended = True

    def _one(self, mask: int, cookie: int, path: str, last: tuple[str, str]) -> tuple[str, str]:
        """One notice. Returns (type, path) of what was told, so that one write in many parts is told once."""
        is_directory = bool(mask & _ISDIR)
        kind, source = "", None
        if mask & _MOVED_FROM:
            self._moved[cookie] = (path, is_directory)
            return last
        if mask & _MOVED_TO:
            gone = self._moved.pop(cookie, None)
            kind, source = ("move", gone[0]) if gone else ("create", None)
            if gone and is_directory:
                self._renamed(gone[0], path)
        elif mask & _CREATE:
            kind = "create"
        elif mask & _DELETE:
            kind = "delete"
        elif mask & (_MODIFY | _ATTRIB):
            kind = "modify"
        if not kind or (kind == "modify" and (last == (kind, path) or _is_nameless(path))):
            return last
        self._event(kind, path, is_directory=is_directory, source=source)
        if kind == "delete":
            self._missed.discard(path)
        elif kind in ("create", "move") and is_directory and self._recursive:
            # Moved ones, too: one that was given another name before it could be watched is new.
            for new in {path, *self._below(path, self._missed)}:
                self._missed.discard(new)
                self._add(new, new, new=True)
        return kind, path

    @staticmethod
    def _below(path: str, paths: Iterable[str]) -> list[str]:
        return [one for one in paths if one == path or one.startswith(path + "/")]

    def _renamed(self, old: str, new: str) -> None:
        for path in self._below(old, self._missed):
            self._missed.remove(path)
            self._missed.add(new + path[len(old) :])
        for watched, path in self._directories.items():
            if path == old or path.startswith(old + "/"):
                self._directories[watched] = new + path[len(old) :]

    def _moved_away(self) -> None:
        for path, is_directory in self._moved.values():
            self._event("delete", path, is_directory=is_directory)
            if is_directory:
                self._missed.difference_update(self._below(path, self._missed))
                for watched in [number for number, known in self._directories.items() if known == path or known.startswith(path + "/")]:
                    _libc.inotify_rm_watch(self._fd, watched)
                    del self._directories[watched]
        self._moved.clear()


def _is_nameless(path: str) -> bool:
    """A file without a name (O_TMPFILE) is told of by its number."""
    name = os.path.basename(path)
    return name[:1] == "#" and name[1:].isdigit() and not os.path.lexists(path)


def watch(port: Port, path: str, *, recursive: bool) -> None:
    """Tells what happens in a directory, and with `recursive` below it. The first event is `watching`: what happens from then on is told."""
    _Watch(port, os.path.abspath(path), recursive=recursive).run()
