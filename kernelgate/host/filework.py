"""What a worker does with files. Each operation takes the port and the request, and returns what is small of its answer.

Paths are relative to the working directory, the session's workspace. What is written whole appears under its name in one step, or not at all.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import difflib
import errno
import gzip
import io
import json
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO

from kernelgate._tar import tarfile
from kernelgate.host import inotify
from kernelgate.host.worker import CHUNK_BYTES, Failed, Operation, Port, exact, of_os, shown

_MAX_PATH_BYTES = 4095
#: Files that are taken apart as text, or searched, are read whole.
MAX_TEXT_BYTES = 16 * 1024 * 1024
_MAX_LINE = 500
#: Names that are looked at for artifacts, or to measure the workspace.
_MAX_LOOKS = 200_000
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_GZIP_LEVEL = 3

_libc = ctypes.CDLL(None, use_errno=True)


def path_of(request: dict[str, Any], name: str = "path") -> str:
    """A path of the request. Raises Failed."""
    value = request[name]
    if not value:
        raise Failed("invalid_path", f"{name}: must not be empty")
    if "\0" in value:
        raise Failed("invalid_path", f"{name}: a path has no NUL character")
    if len(os.fsencode(value)) > _MAX_PATH_BYTES:
        raise Failed("invalid_path", f"{name}: longer than {_MAX_PATH_BYTES} bytes")
    return str(value)


def _time(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISLNK(mode):
        return "symlink"
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def describe(path: str, facts: os.stat_result) -> dict[str, Any]:
    """A file as callers see it."""
    whole = os.path.abspath(path)
    name = os.path.basename(whole)
    entry = {
        "name": shown(name), "path": shown(whole), "type": _kind(facts.st_mode), "size": facts.st_size, "mode": f"{stat.S_IMODE(facts.st_mode):04o}",
        "modified_at": _time(facts.st_mtime_ns), "accessed_at": _time(facts.st_atime_ns), "changed_at": _time(facts.st_ctime_ns), **exact(name=name, path=whole),
    }  # fmt: skip
    if stat.S_ISLNK(facts.st_mode):
        with contextlib.suppress(OSError):
            entry["target"] = shown(os.readlink(path))
    return entry


def _tag(facts: os.stat_result) -> str:
    return f'"{facts.st_mtime_ns:x}-{facts.st_size:x}-{facts.st_ino:x}"'


def _send_json(port: Port, value: Any) -> None:
    port.text(json.dumps(value, separators=(",", ":")).encode())


# -- looking --


def stat_(port: Port, request: dict[str, Any]) -> None:
    path = path_of(request)
    _send_json(port, describe(path, os.stat(path, follow_symlinks=request["follow"])))


def list_(port: Port, request: dict[str, Any]) -> None:
    """The entries of a directory and, with `depth`, of those below it: in the order of their names, from behind `after`."""
    path, limit = path_of(request), request["limit"]
    after = None
    if request["after"]:
        try:
            after = os.fsdecode(base64.b64decode(request["after"], altchars=b"-_", validate=True)).split("/")
        except ValueError as exc:
            raise Failed("invalid_request", "page_token: use the next_page_token of the page before") from exc
    entries: list[dict[str, Any]] = []
    last: tuple[str, ...] = ()
    for inner, facts, parts in _walk(path, request["depth"], after):
        if len(entries) == limit:
            token = base64.urlsafe_b64encode(os.fsencode("/".join(last))).decode()
            _send_json(port, {"path": shown(os.path.abspath(path)), "entries": entries, "next_page_token": token})
            return
        entries.append(describe(inner, facts))
        last = parts
    _send_json(port, {"path": shown(os.path.abspath(path)), "entries": entries, "next_page_token": None})


def _walk(
    path: str, depth: int, after: list[str] | None, parts: tuple[str, ...] = ()
) -> Iterator[tuple[str, os.stat_result, tuple[str, ...]]]:
    """(path, facts, names below the top), parents before what is in them. What vanishes meanwhile, or below the top may not be read, is left out."""
    with os.scandir(path) as scan:
        found = sorted(scan, key=lambda one: one.name)
    for entry in found:
        rest: list[str] | None = None
        if after:
            if entry.name < after[0]:
                continue
            rest = after[1:] if entry.name == after[0] else None
        inner = (*parts, entry.name)
        try:
            facts = entry.stat(follow_symlinks=False)
            if rest is None:
                yield entry.path, facts, inner
            if depth > 1 and stat.S_ISDIR(facts.st_mode):
                yield from _walk(entry.path, depth - 1, rest, inner)
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            continue


# -- reading --


def open_file(path: str) -> tuple[int, os.stat_result]:
    """A regular file, for reading: nothing that could block or has no end."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    facts = os.fstat(fd)
    if stat.S_ISREG(facts.st_mode):
        return fd, facts
    os.close(fd)
    if stat.S_ISDIR(facts.st_mode):
        raise Failed("is_a_directory", f"{shown(path)!r}: is a directory")
    raise Failed("not_a_file", f"{shown(path)!r}: is a {_kind(facts.st_mode)}, not a file")


def read(port: Port, request: dict[str, Any]) -> None:
    """The bytes of a file, or a range of them: first a frame with its facts, then the data."""
    path = path_of(request)
    fd, facts = open_file(path)
    with os.fdopen(fd, "rb", buffering=0) as file:
        # Files of /proc have no size before they are read.
        small = file.read(CHUNK_BYTES) if facts.st_size == 0 else b""
        size = len(small) or facts.st_size
        start, stop = 0, size
        tag = _tag(facts)
        ranged = request["start"] is not None or request["suffix"] is not None
        if ranged and request["if_range"] in (None, tag):
            if request["suffix"] is not None:
                start = max(0, size - request["suffix"])
            else:
                start, stop = request["start"], size if request["stop"] is None else min(request["stop"], size)
            if start >= stop:
                raise Failed("range_not_satisfiable", f"the file has {size} bytes", size=size)
        else:
            ranged = False
        port.send(
            {"ok": {"size": size, "start": start, "length": stop - start, "partial": ranged, "etag": tag, "modified": facts.st_mtime}}
        )
        if small:
            port.text(small[start:stop])
            return
        file.seek(start)
        left = stop - start
        while left:
            data = file.read(min(CHUNK_BYTES, left))
            if not data:
                raise Failed("file_operation_failed", f"{shown(path)!r}: became shorter while it was read")
            left -= len(data)
            port.send({"data": True}, data)


def whole(path: str, limit: int) -> tuple[bytes, os.stat_result]:
    """All of a file. Raises Failed where it is larger than `limit` bytes."""
    fd, facts = open_file(path)
    with os.fdopen(fd, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Failed("file_too_large", f"{shown(path)!r}: more than {limit} bytes; read it in ranges, or download it")
    return data, facts


def decoded(path: str, data: bytes, encoding: str, errors: str) -> str:
    try:
        # A half surrogate can come out of utf-16 or surrogatepass; JSON cannot hold it.
        return data.decode(encoding, errors).encode("utf-8", "replace").decode()
    except LookupError as exc:
        raise Failed("invalid_request", f"encoding: {encoding!r} is not known") from exc
    except (UnicodeError, ValueError, TypeError, AttributeError) as exc:
        raise Failed("not_text", f"{shown(path)!r}: is not {encoding} text ({exc}); read its bytes, or with errors=replace") from exc


def text(port: Port, request: dict[str, Any]) -> None:
    path = path_of(request)
    data, facts = whole(path, request["max_bytes"])
    content = decoded(path, data, request["encoding"], request["errors"])
    _send_json(port, {**describe(path, facts), "size": len(data), "encoding": request["encoding"], "content": content})


def read_many(port: Port, request: dict[str, Any]) -> None:
    """Several files; one that cannot be read has an `error`. `max_bytes` are for all of them together."""
    left = request["max_bytes"]
    answers: list[dict[str, Any]] = []
    for path in request["paths"]:
        answer: dict[str, Any] = {"path": path, "content": None, "encoding": None, "size": None, "error": None}
        try:
            data, _ = whole(path_of({"path": path}), left)
            left -= len(data)
            answer["size"] = len(data)
            answer |= (
                in_json(data)
                if request["encoding"] is None
                else {"content": decoded(path, data, request["encoding"], "strict"), "encoding": request["encoding"]}
            )
        except Failed as exc:
            answer["error"] = {"code": exc.code, "message": exc.message}
        except OSError as exc:
            answer["error"] = of_os(exc)
        answers.append(answer)
    _send_json(port, {"files": answers})


def in_json(data: bytes) -> dict[str, str]:
    """Bytes as text where they are text, else as base64."""
    try:
        return {"content": data.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"content": base64.b64encode(data).decode(), "encoding": "base64"}


# -- writing --


class _New:
    """A file that has no name until it is whole: what breaks off on the way, even by SIGKILL, leaves nothing behind."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._directory, base = os.path.split(target)
        self._temporary = os.path.join(self._directory, f".{base[:60]}.{secrets.token_hex(6)}")
        self._has_name = False
        try:
            self.fd = os.open(self._directory or ".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            if exc.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
            # A file system without such files.
            self.fd = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._has_name = True

    def __enter__(self) -> _New:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        if self._has_name:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)

    def _link(self, name: str) -> None:
        if self._has_name:
            os.link(self._temporary, name)
        else:
            # The descriptor makes Python use linkat, which alone follows this link; the path is absolute, so it stands for nothing else.
            os.link(f"/proc/self/fd/{self.fd}", name, src_dir_fd=self.fd, follow_symlinks=True)

    def appear(self, mode: int, *, replace: bool) -> None:
        """Gives the file its name, in place of what had it with `replace`. Raises FileExistsError."""
        os.fchmod(self.fd, mode)
        try:
            self._link(self._target)
            return
        except FileExistsError:
            if not replace:
                raise FileExistsError(errno.EEXIST, "there is something already", self._target) from None
        if not self._has_name:
            self._link(self._temporary)
            self._has_name = True
        os.rename(self._temporary, self._target)
        self._has_name = False


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _writable_target(path: str) -> tuple[str, os.stat_result | None]:
    """Where a write to `path` goes (through links, as the system does it), and what is there."""
    target = os.path.realpath(path) if os.path.islink(path) else path
    if not os.path.basename(target) or os.path.basename(target) in (".", ".."):
        raise Failed("is_a_directory", f"{shown(path)!r}: names a directory")
    try:
        facts = os.stat(target)
    except FileNotFoundError:
        return target, None
    if stat.S_ISDIR(facts.st_mode):
        raise Failed("is_a_directory", f"{shown(path)!r}: is a directory")
    if not stat.S_ISREG(facts.st_mode):
        raise Failed("not_a_file", f"{shown(path)!r}: is a {_kind(facts.st_mode)}, not a file")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "permission denied", path)
    return target, facts


def _make_parents(path: str) -> None:
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        try:
            os.makedirs(parent, exist_ok=True)
        except FileExistsError as exc:
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", parent) from exc


def write(port: Port, request: dict[str, Any]) -> None:
    """The pieces that follow become the file, or are added to it."""
    path, how = path_of(request), request["mode"]
    if request["parents"]:
        _make_parents(path)
    if how == "create" and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "there is something already", path)
    target, facts = _writable_target(path)
    if how == "append" and facts is not None:
        _append(port, target)
    else:
        with _New(target) as new:
            for piece in port.pieces():
                _write_all(new.fd, piece)
            permissions = request["permissions"]
            mode = permissions if permissions is not None else 0o644 if facts is None else stat.S_IMODE(facts.st_mode) & 0o777
            new.appear(mode, replace=how != "create")
    _send_json(port, {**describe(path, os.stat(target)), "created": facts is None})


def _append(port: Port, target: str) -> None:
    fd = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        before, written = os.fstat(fd).st_size, 0
        try:
            for piece in port.pieces():
                _write_all(fd, piece)
                written += len(piece)
        except BaseException:
            # All of it or nothing, where nobody else has added to it meanwhile.
            if os.fstat(fd).st_size >= before + written:
                os.ftruncate(fd, before)
            raise
    finally:
        os.close(fd)


def mkdir(port: Port, request: dict[str, Any]) -> None:
    path = path_of(request)
    if request["parents"]:
        os.makedirs(path, exist_ok=True)
    elif not (request["exist_ok"] and os.path.isdir(path)):
        os.mkdir(path)
    _send_json(port, describe(path, os.stat(path)))


def _not_the_top(path: str) -> None:
    real = os.path.realpath(os.path.dirname(os.path.abspath(path))) if os.path.islink(path.rstrip("/")) else os.path.realpath(path)
    if not os.path.islink(path.rstrip("/")) and real in ("/", os.getcwd()):
        raise Failed("invalid_path", f"{shown(path)!r}: the workspace itself stays; name what is in it")


def delete(port: Port, request: dict[str, Any]) -> None:
    path = path_of(request)
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        if request["missing_ok"]:
            _send_json(port, {"deleted": False})
            return
        raise
    if stat.S_ISDIR(facts.st_mode):
        _not_the_top(path)
        if request["recursive"]:
            shutil.rmtree(path)
        else:
            os.rmdir(path)
    else:
        os.unlink(path)
    _send_json(port, {"deleted": True})


def _rename(source: str, destination: str, *, overwrite: bool) -> None:
    if overwrite:
        os.rename(source, destination)
        return
    result = _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(destination), _RENAME_NOREPLACE)
    if result < 0:
        number = ctypes.get_errno()
        if number == errno.EINVAL and not os.path.lexists(destination):
            os.rename(source, destination)  # a file system that does not know the flag
            return
        raise OSError(number, os.strerror(number), source, None, destination)


def _both(request: dict[str, Any]) -> tuple[str, str]:
    source, destination = path_of(request, "source").rstrip("/") or "/", path_of(request, "destination").rstrip("/") or "/"
    os.lstat(source)
    inside = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(destination))), os.path.basename(destination))
    if os.path.isdir(source) and not os.path.islink(source) and (inside + "/").startswith(os.path.realpath(source) + "/"):
        if inside == os.path.realpath(source):
            raise Failed("file_exists", "source and destination are the same")
        raise Failed("invalid_path", "a directory cannot be put into itself")
    if not request["overwrite"] and os.path.lexists(destination):
        raise FileExistsError(errno.EEXIST, "there is something already", destination)
    if request["parents"]:
        _make_parents(destination)
    return source, destination


def move(port: Port, request: dict[str, Any]) -> None:
    source, destination = _both(request)
    if os.path.isdir(source) and not os.path.islink(source):
        _not_the_top(source)
    try:
        _rename(source, destination, overwrite=request["overwrite"])
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        _copy(source, destination, overwrite=request["overwrite"])
        if os.path.isdir(source) and not os.path.islink(source):
            shutil.rmtree(source)
        else:
            os.unlink(source)
    _send_json(port, describe(destination, os.lstat(destination)))


def copy(port: Port, request: dict[str, Any]) -> None:
    source, destination = _both(request)
    _copy(source, destination, overwrite=request["overwrite"])
    _send_json(port, describe(destination, os.lstat(destination)))


def _copy(source: str, destination: str, *, overwrite: bool) -> None:
    """Under another name first, so that a copy that is not whole is never seen."""
    directory, base = os.path.split(destination)
    temporary = os.path.join(directory, f".{base[:60]}.{secrets.token_hex(6)}")
    try:
        _copy_one(source, temporary)
        _rename(temporary, destination, overwrite=overwrite)
    except BaseException:
        if os.path.isdir(temporary) and not os.path.islink(temporary):
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise


def _copy_one(source: str, target: str) -> None:
    facts = os.lstat(source)
    if stat.S_ISLNK(facts.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(facts.st_mode):
        os.mkdir(target)
        with os.scandir(source) as scan:
            found = list(scan)
        for entry in found:
            if _kind(entry.stat(follow_symlinks=False).st_mode) in ("file", "directory", "symlink"):
                _copy_one(entry.path, os.path.join(target, entry.name))
        os.chmod(target, stat.S_IMODE(facts.st_mode) & 0o777)
        os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    else:
        fd, _ = open_file(source)
        with os.fdopen(fd, "rb") as reading, open(target, "xb") as writing:
            shutil.copyfileobj(reading, writing, CHUNK_BYTES)
            os.fchmod(writing.fileno(), stat.S_IMODE(facts.st_mode) & 0o777)
        os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def edit(port: Port, request: dict[str, Any]) -> None:
    """Replacements in a text, all or none. Each `old_text` must be there, and just once but with `all`."""
    path = path_of(request)
    target, facts = _writable_target(path)
    data, _ = whole(path, MAX_TEXT_BYTES)
    before = after = decoded(path, data, "utf-8", "strict")
    for number, one in enumerate(request["edits"], 1):
        count = after.count(one["old_text"]) if one["old_text"] else 0
        if count == 0:
            raise Failed("edit_not_found", f"edit {number}: its old_text is not in {shown(path)!r}", edit=number)
        if count > 1 and not one["all"]:
            raise Failed(
                "edit_ambiguous",
                f"edit {number}: its old_text is there {count} times; give more of it, or all=true",
                edit=number,
                count=count,
            )
        after = after.replace(one["old_text"], one["new_text"])
    name = shown(os.path.relpath(path)).removeprefix("../")
    lines = difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}")
    diff = "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)
    if not request["dry_run"] and after != before:
        assert facts is not None
        with _New(target) as new:
            _write_all(new.fd, after.encode())
            new.appear(stat.S_IMODE(facts.st_mode) & 0o777, replace=True)
    _send_json(port, {"path": shown(os.path.abspath(path)), "changed": after != before, "dry_run": request["dry_run"], "diff": diff})


# -- searching --


def glob_to_regex(pattern: str) -> str:
    """A glob over paths with `/`: `*` and `?` stay within a name, `**` crosses directories, `[...]` and `{a,b}` as in a shell."""
    out, at, depth = [], 0, 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**/", at):
            out.append("(?:.*/)?")
            at += 3
            continue
        if pattern.startswith("**", at):
            out.append(".*")
            at += 2
            continue
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[" and (end := pattern.find("]", at + 2)) > 0:
            inner = pattern[at + 1 : end].replace("\\", "\\\\")
            out.append("[" + ("^/" + inner[1:] if inner[0] == "!" else "\\" + inner if inner[0] == "^" else inner) + "]")
            at = end
        elif char == "{" and "}" in pattern[at:]:
            out.append("(?:")
            depth += 1
        elif char == "}" and depth:
            out.append(")")
            depth -= 1
        elif char == "," and depth:
            out.append("|")
        else:
            out.append(re.escape(char))
        at += 1
    return "".join(out) + ")" * depth


def _matcher(patterns: list[str], *, ignore_case: bool) -> Callable[[str], bool]:
    """Whether one of the globs fits a path: one without `/` fits the last name at any depth."""
    try:
        compiled = [
            re.compile(
                glob_to_regex(pattern if "/" in pattern else f"**/{pattern}").removeprefix("/"),
                re.DOTALL | (re.IGNORECASE if ignore_case else 0),
            )
            for pattern in patterns
        ]
    except re.error as exc:
        raise Failed("invalid_request", f"pattern: is no glob ({exc})") from exc
    return lambda path: any(one.fullmatch(path) for one in compiled)


def search(port: Port, request: dict[str, Any]) -> None:
    """Files below a directory by glob, and by what is in them."""
    top = path_of(request)
    ignore_case, limit = request["ignore_case"], request["limit"]
    wanted = _matcher([request["pattern"]], ignore_case=ignore_case)
    left_out = _matcher(request["exclude"], ignore_case=ignore_case)
    content = None
    if request["content"] is not None:
        try:
            content = re.compile(
                request["content"] if request["regex"] else re.escape(request["content"]), re.IGNORECASE if ignore_case else 0
            )
        except (re.error, RecursionError, OverflowError) as exc:
            raise Failed("invalid_request", f"content: is no regular expression ({exc})") from exc
    os.listdir(top)  # that it is a directory which may be read
    found: list[dict[str, Any]] = []
    lines_left, truncated = request["max_lines"], False
    for path, facts, relative in _candidates(top, "", left_out):
        if not wanted(relative):
            continue
        lines: list[dict[str, Any]] = []
        if content is not None:
            if not stat.S_ISREG(facts.st_mode):
                continue
            lines = _grep(path, content, lines_left)
            if not lines:
                continue
            lines_left -= len(lines)
        if len(found) == limit:
            truncated = True
            break
        found.append({**describe(path, facts), "lines": lines})
        if content is not None and lines_left <= 0:
            truncated = True
            break
    _send_json(port, {"path": shown(os.path.abspath(top)), "matches": found, "truncated": truncated})


def _candidates(path: str, relative: str, left_out: Callable[[str], bool]) -> Iterator[tuple[str, os.stat_result, str]]:
    try:
        with os.scandir(path) as scan:
            entries = sorted(scan, key=lambda one: one.name)
    except OSError:
        return
    for entry in entries:
        inner = f"{relative}/{entry.name}" if relative else entry.name
        if left_out(inner):
            continue
        try:
            facts = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        yield entry.path, facts, inner
        if stat.S_ISDIR(facts.st_mode):
            yield from _candidates(entry.path, inner, left_out)


def _grep(path: str, content: re.Pattern[str], most: int) -> list[dict[str, Any]]:
    """The lines that match, of a file that is text and not too large."""
    try:
        data, _ = whole(path, MAX_TEXT_BYTES)
    except (OSError, Failed):
        return []
    if b"\0" in data[:8192]:
        return []
    found = []
    for number, line in enumerate(data.split(b"\n"), 1):
        text = line.decode("utf-8", "replace").removesuffix("\r")
        match = content.search(text)
        if match:
            start = max(0, match.start() - _MAX_LINE // 2) if len(text) > _MAX_LINE else 0
            found.append({"line": number, "column": match.start() + 1, "text": text[start : start + _MAX_LINE]})
            if len(found) >= most:
                break
    return found


# -- what a run made or changed --


def collect(port: Port, request: dict[str, Any]) -> None:
    """Files that have changed since `since_ns`, of those that `patterns` name: paths or globs, relative to `cwd`. With their contents, as long as those together have no more than `max_bytes`."""
    found: dict[str, os.stat_result] = {}
    truncated, looks_left = False, _MAX_LOOKS
    for pattern in request["patterns"]:
        for path, facts, fits in _named(os.path.join(request["cwd"], pattern), any_depth="/" not in pattern):
            looks_left -= 1
            if looks_left < 0:
                truncated = True
                break
            if fits and stat.S_ISREG(facts.st_mode) and facts.st_ctime_ns > request["since_ns"]:
                if len(found) == request["max_files"] and path not in found:
                    truncated = True
                    break
                found[path] = facts
    left = request["max_bytes"]
    files: list[dict[str, Any]] = []
    for path in sorted(found):
        entry: dict[str, Any] = {**describe(path, found[path]), "content": None, "encoding": None}
        if found[path].st_size <= left:
            with contextlib.suppress(OSError, Failed):  # gone, or grown, in between
                data, facts = whole(path, left)
                left -= len(data)
                entry.update(describe(path, facts), size=len(data), **in_json(data))
        files.append(entry)
    _send_json(port, {"files": files, "truncated": truncated})


def _named(pattern: str, *, any_depth: bool) -> Iterator[tuple[str, os.stat_result, bool]]:
    """What is looked at for an absolute path or glob, and whether that names it. `any_depth`: the name is looked for at any depth."""
    parts = pattern.split("/")
    fixed = next((number for number, part in enumerate(parts) if set(part) & set("*?[{")), None)
    if fixed is None:
        with contextlib.suppress(OSError):
            path = os.path.normpath(pattern)
            yield path, os.lstat(path), True
        return
    glob = "/".join(parts[fixed:])
    try:
        wanted = re.compile(glob_to_regex(f"**/{glob}" if any_depth else glob), re.DOTALL)
    except re.error as exc:
        raise Failed("invalid_request", f"artifacts: {shown(pattern)!r} is no glob ({exc})") from exc
    top = os.path.normpath("/".join(parts[:fixed]) or "/")
    for path, facts, relative in _candidates(top, "", lambda _: False):
        yield path, facts, wanted.fullmatch(relative) is not None


def usage(port: Port, request: dict[str, Any]) -> None:  # noqa: ARG001 - of every operation
    """What is in the workspace: on the disk, so holes do not count, and a file of several names counts once."""
    size = count = 0
    seen: set[tuple[int, int]] = set()
    truncated = False
    for number, (_, facts, _) in enumerate(_candidates(".", "", lambda _: False)):
        if number == _MAX_LOOKS:
            truncated = True
            break
        count += 1
        if facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode):
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
        size += facts.st_blocks * 512
    _send_json(port, {"bytes": size, "entries": count, "truncated": truncated})


# -- archives --


class _Out(io.RawIOBase):
    """What is written goes to the host."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        while len(self._held) >= CHUNK_BYTES:
            self._port.send({"data": True}, bytes(self._held[:CHUNK_BYTES]))
            del self._held[:CHUNK_BYTES]
        return len(data)

    def finish(self) -> None:
        if self._held:
            self._port.send({"data": True}, bytes(self._held))
            self._held.clear()


class _In(io.RawIOBase):
    """The pieces of an upload, as a file."""

    def __init__(self, port: Port) -> None:
        self._pieces = port.pieces()
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._held = piece
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count

    def finish(self) -> None:
        for _ in self._pieces:
            pass


class _Padded:
    """A file that has as many bytes as its header in the archive says, whatever happens to it meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        return data + bytes(size - len(data))


def pack(port: Port, request: dict[str, Any]) -> None:
    """A directory's tree, or one file, as tar.gz. What may not be read, and what is neither file, directory nor link, is left out."""
    top = path_of(request)
    facts = os.stat(top)
    if stat.S_ISDIR(facts.st_mode):
        os.listdir(top)
        members: Iterator[tuple[str, os.stat_result, str]] = _candidates(top, "", _matcher(request["exclude"], ignore_case=False))
    else:
        open_file_facts = open_file(top)
        os.close(open_file_facts[0])
        members = iter([(top, facts, os.path.basename(os.path.abspath(top)))])
    out = _Out(port)
    port.send({"ok": {"name": shown(os.path.basename(os.path.abspath(top))) or "files"}})
    with (
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=_GZIP_LEVEL) as packed,
        tarfile.open(fileobj=packed, mode="w|", bufsize=CHUNK_BYTES) as tar,
    ):
        for path, inner, relative in members:
            if _kind(inner.st_mode) not in ("file", "directory", "symlink"):
                continue
            try:
                info = tar.gettarinfo(path, arcname=relative)
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                if info.isreg():
                    fd, _ = open_file(path)
                    with os.fdopen(fd, "rb") as file:
                        tar.addfile(info, _Padded(file))  # type: ignore[arg-type]  # it reads, and that is all
                else:
                    tar.addfile(info)
            except (OSError, Failed):
                continue
    out.finish()


def unpack(port: Port, request: dict[str, Any]) -> None:
    """A tar, plain or packed, into a directory, which is made. Members that would lie outside of it are refused."""
    top = path_of(request)
    os.makedirs(top, exist_ok=True)
    source = _In(port)
    entries = size = 0
    try:
        with tarfile.open(fileobj=io.BufferedReader(source, CHUNK_BYTES), mode="r|*", bufsize=CHUNK_BYTES) as tar:
            for member in tar:
                if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                    continue
                tar.extract(member, top, set_attrs=True, numeric_owner=False, filter="data")
                entries += 1
                size += member.size if member.isreg() else 0
    except tarfile.FilterError as exc:
        raise Failed("invalid_archive", f"the archive has a member that would lie outside: {shown(exc.tarinfo.name)!r}") from exc
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError) as exc:
        raise Failed("invalid_archive", f"the body is no tar archive, plain or packed: {exc}") from exc
    source.finish()
    _send_json(port, {"path": shown(os.path.abspath(top)), "entries": entries, "bytes": size})


def watch(port: Port, request: dict[str, Any]) -> None:
    inotify.watch(port, path_of(request), recursive=request["recursive"])


OPERATIONS: dict[str, Operation] = {
    "stat": stat_, "list": list_, "read": read, "text": text, "read_many": read_many, "write": write, "mkdir": mkdir, "delete": delete, "move": move, "copy": copy,
    "edit": edit, "search": search, "collect": collect, "usage": usage, "pack": pack, "unpack": unpack, "watch": watch,
}  # fmt: skip
