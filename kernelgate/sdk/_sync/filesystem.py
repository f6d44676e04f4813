# Generated from kernelgate/sdk/_async/filesystem.py by tests/tools/unasync.py: change that one.
"""Files of a session: `session.file_system`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

from kernelgate.sdk import _wire, errors
from kernelgate.sdk._sync._runtime import call
from kernelgate.sdk.files import FileEdit, FileEvent, FileInfo, FileMatch, FileText, Partial, named, open_local

if TYPE_CHECKING:
    import builtins
    from collections.abc import Generator, Callable, Iterable, Mapping
    from pathlib import Path

    from kernelgate.sdk._sync.transport import Transport
    from kernelgate.sdk.models import Json

OnProgress: TypeAlias = "Callable[[int, int], Any]"

_CHUNK_BYTES = 256 * 1024
_GLOB = frozenset("*?[{")


def _both(source: str | bytes, destination: str | bytes) -> Json:
    return {**named(source, "source"), **named(destination, "destination")}


class FileSystem:
    """The files of one session. Paths are relative to /workspace; bytes are for names that are no UTF-8.

    What goes wrong is raised: `errors.FileNotFound`, `errors.FileConflict` and so on; `code` says what precisely.
    """

    def __init__(self, transport: Transport, session_path: str) -> None:
        self._transport = transport
        self._path = f"{session_path}/files"

    def _post(self, name: str, body: Json) -> Json:
        return self._transport.request("POST", f"{self._path}/{name}", body=body, is_safe=False)

    # -- reading --

    def read_file(
        self,
        path: str | bytes,
        format: str = "text",  # noqa: A002  (the name other SDKs have)
        *,
        encoding: str = "utf-8",
        offset: int = 0,
        length: int = 0,
    ) -> FileText:
        """A file's content.

        Args:
            path: of a file.
            format: `text`, or `bytes`.
            encoding: of the text.
            offset: in bytes, where to begin.
            length: in bytes, how much to read; 0 for all.
        """
        if format == "text" and not offset and not length:
            query = {**named(path), "encoding": encoding}
            raw = self._transport.request("GET", f"{self._path}/text", query=query, is_safe=True)
            return FileText(path=os.fsdecode(path), content=raw["content"])
        content = b"".join([piece for piece in self.read_stream(path, offset=offset, length=length)])
        return FileText(path=os.fsdecode(path), content=content.decode(encoding) if format == "text" else content)

    def read_stream(self, path: str | bytes, *, offset: int = 0, length: int = 0) -> Generator[bytes, None, None]:
        """A file's bytes, piece by piece, however many there are."""
        headers = {"range": f"bytes={offset}-{offset + length - 1 if length else ''}"} if offset or length else {}
        with self._transport.exchange("GET", f"{self._path}/content", query=named(path), headers=headers) as response:
            for piece in response.iter_bytes(_CHUNK_BYTES):
                if piece:
                    yield piece

    def read_multiple_files(self, paths: Iterable[str]) -> dict[str, str]:
        """The texts of several files, by path; those that cannot be read are left out."""
        body = {"paths": list(paths), "encoding": "utf-8"}
        raw = self._transport.request("POST", f"{self._path}/read", body=body, is_safe=True)
        return {one["path"]: one["content"] for one in raw["files"] if one["error"] is None}

    def get_file_info(self, path: str | bytes) -> FileInfo:
        """What a path names."""
        return FileInfo.from_wire(self._transport.request("GET", f"{self._path}/stat", query=named(path), is_safe=True))

    def list_directory(self, path: str | bytes = ".", *, depth: int = 1) -> builtins.list[FileInfo]:
        """What is in a directory, in the order of the names; with `depth` also what is below it."""
        found: builtins.list[FileInfo] = []
        token: str | None = None
        while True:
            query = {**named(path), "depth": depth, "page_token": token}
            raw = self._transport.request("GET", self._path, query=query, is_safe=True)
            found += [FileInfo.from_wire(one) for one in raw["entries"]]
            token = raw["next_page_token"]
            if token is None:
                return found

    def search_files(
        self,
        path: str | bytes = ".",
        pattern: str = "*",
        exclude_patterns: Iterable[str] = (),
        *,
        content: str | None = None,
        regex: bool = False,
        ignore_case: bool = False,
        limit: int = 1000,
    ) -> builtins.list[FileMatch]:
        """Files below a directory, by name and by what is in them.

        Args:
            path: where to look.
            pattern: a glob; one without `*`, `?` or `[` is looked for anywhere in the name.
            exclude_patterns: globs of what to leave out.
            content: only files with lines that have this.
            regex: `content` is a regular expression.
            ignore_case: of names and content.
            limit: at most so many.
        """
        glob = pattern if _GLOB & set(pattern) else f"*{pattern}*"
        body: Json = {
            **named(path),
            "pattern": glob,
            "exclude": list(exclude_patterns),
            "regex": regex,
            "ignore_case": ignore_case,
            "limit": limit,
        }
        if content is not None:
            body["content"] = content
        raw = self._transport.request("POST", f"{self._path}/search", body=body, is_safe=True)
        return [FileMatch.from_wire(one) for one in raw["matches"]]

    # -- writing --

    def write_file(self, path: str | bytes, content: str | bytes, mode: str = "overwrite", *, encoding: str = "utf-8") -> FileInfo:
        """Writes a file in one step; the directories above it are made.

        Args:
            path: where.
            content: text or bytes.
            mode: `overwrite`, `append`, or `create`, which fails where there is something.
            encoding: of the text.
        """
        data = content.encode(encoding) if isinstance(content, str) else content
        return self._put(path, data, mode)

    def _put(self, path: str | bytes, content: Any, mode: str) -> FileInfo:
        query = {**named(path), "mode": mode}
        with self._transport.exchange("PUT", f"{self._path}/content", query=query, content=content) as response:
            return FileInfo.from_wire(self._transport.decoded(response.read(), response))

    def edit_file(self, path: str | bytes, edits: Iterable[Mapping[str, Any]], dry_run: bool = False) -> FileEdit:
        """Replaces texts in a file, all or none.

        Args:
            path: of a text file.
            edits: `{"old_text", "new_text"}` each (or `oldText`, `newText`); an old text must be there just once, but with `"all": True`.
            dry_run: only tells what would change.
        """
        made = [
            {
                "old_text": one.get("old_text", one.get("oldText", "")),
                "new_text": one.get("new_text", one.get("newText", "")),
                "all": bool(one.get("all", False)),
            }
            for one in edits
        ]
        return FileEdit.from_wire(self._post("edit", {**named(path), "edits": made, "dry_run": dry_run}))

    def create_directory(self, path: str | bytes) -> FileInfo:
        """Makes a directory, and those above it. One that is there already is no error."""
        return FileInfo.from_wire(self._post("mkdir", {**named(path)}))

    def move_file(self, source: str | bytes, destination: str | bytes, *, overwrite: bool = False) -> FileInfo:
        """Gives a file or a directory another name."""
        return FileInfo.from_wire(self._post("move", {**_both(source, destination), "overwrite": overwrite}))

    def copy(self, source: str | bytes, destination: str | bytes, *, overwrite: bool = False) -> FileInfo:
        """Copies a file, or a directory with all that is in it."""
        return FileInfo.from_wire(self._post("copy", {**_both(source, destination), "overwrite": overwrite}))

    def delete_file(self, path: str | bytes, *, recursive: bool = False) -> bool:
        """Deletes a file, or a directory: an empty one, or with `recursive` any."""
        raw = self._transport.request("DELETE", self._path, query={**named(path), "recursive": recursive}, is_safe=False)
        return bool(raw["deleted"])

    # -- this machine's files --

    def upload_file(self, local_path: str | Path, remote_path: str | bytes, *, on_progress: OnProgress | None = None) -> FileInfo:
        """A file of this machine into the session, of any size. `on_progress` is called with how many bytes are sent, and how many there are."""
        return self._put(remote_path, self._pieces(local_path, on_progress), "overwrite")

    def _pieces(self, local_path: str | Path, on_progress: OnProgress | None) -> Generator[bytes, None, None]:
        with open_local(local_path) as (file, total):
            sent = 0
            while piece := file.read(_CHUNK_BYTES):
                yield piece
                sent += len(piece)
                if on_progress is not None:
                    call(on_progress, sent, max(sent, total))

    def download_file(self, remote_path: str | bytes, local_path: str | Path, *, on_progress: OnProgress | None = None) -> int:
        """A file of the session onto this machine, of any size; how many bytes. What is not whole does not get its name.

        `on_progress` is called with how many bytes have come, and how many there are.
        """
        return self._get("content", named(remote_path), local_path, on_progress)

    def _get(self, what: str, query: Mapping[str, Any], local_path: str | Path, on_progress: OnProgress | None) -> int:
        with Partial(local_path) as partial:
            with self._transport.exchange("GET", f"{self._path}/{what}", query=query) as response:
                total = int(response.headers.get("content-length") or 0)
                for piece in response.iter_bytes(_CHUNK_BYTES):
                    partial.add(piece)
                    if on_progress is not None:
                        call(on_progress, partial.size, max(partial.size, total))
        return partial.size

    def download_archive(
        self,
        path: str | bytes,
        local_path: str | Path,
        exclude_patterns: Iterable[str] = (),
        *,
        on_progress: OnProgress | None = None,
    ) -> int:
        """A directory of the session with all that is in it, or a file, as a tar.gz onto this machine; how many bytes that has.

        Args:
            path: of the directory, or the file.
            local_path: of the archive.
            exclude_patterns: globs of what to leave out.
            on_progress: called with how many bytes have come, twice: how many there will be nobody knows.
        """
        return self._get("archive", {**named(path), "exclude": tuple(exclude_patterns)}, local_path, on_progress)

    def upload_archive(self, local_path: str | Path, path: str | bytes = ".", *, on_progress: OnProgress | None = None) -> int:
        """Unpacks a tar of this machine (plain, gz, bz2 or xz) into a directory of the session, which is made; how many entries it had."""
        pieces = self._pieces(local_path, on_progress)
        with self._transport.exchange("PUT", f"{self._path}/archive", query=named(path), content=pieces) as response:
            return int(self._transport.decoded(response.read(), response)["entries"])

    # -- watching --

    def watch(self, path: str | bytes = ".", *, recursive: bool = False) -> Generator[FileEvent, None, None]:
        """What happens in a directory, until the caller leaves. The first event is `watching`: all that happens from then on is told."""
        query = {**named(path), "recursive": recursive}
        headers = {"accept": "application/x-ndjson"}
        with self._transport.exchange("GET", f"{self._path}/watch", query=query, headers=headers) as response:
            records = _wire.Records()
            for piece in response.iter_bytes():
                for raw in records.feed(piece):
                    if raw.get("type") == "failure":
                        raise errors.from_wire(raw.get("error") or {})
                    if "seq" in raw:
                        yield FileEvent.from_wire(raw)

    def watch_directory(self, path: str | bytes, callback: Callable[[FileEvent], Any], *, recursive: bool = False) -> None:
        """Calls back for each event, until the callback returns False."""
        for event in self.watch(path, recursive=recursive):
            if call(callback, event) is False:
                return

    read = read_file
    write = write_file
    list = list_directory
    ls = list_directory
    delete = delete_file
    remove = delete_file
    rm = delete_file
    move = move_file
    rename = move_file
    edit = edit_file
    search = search_files
    info = get_file_info
    stat = get_file_info
    mkdir = create_directory
    upload = upload_file
    download = download_file
