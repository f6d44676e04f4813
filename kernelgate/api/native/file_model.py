"""The models of `/v1/sessions/S/files`. Fields are described in docs/api.md."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from kernelgate.api.native.model import Bytes, Model

MAX_ENTRIES = 10_000
MAX_READ_PATHS = 1000
MAX_EDITS = 1000

Path = Annotated[str, Meta(min_length=1, max_length=4096)]
Globs = Annotated[list[Annotated[str, Meta(min_length=1, max_length=4096)]], Meta(max_length=100)]


class ReadFiles(Model):
    paths: Annotated[list[Path], Meta(min_length=1, max_length=MAX_READ_PATHS)]
    encoding: Annotated[str, Meta(max_length=64)] | None = None


class MakeDirectory(Model):
    path: Path
    parents: bool = True
    exist_ok: bool = True


class MoveFile(Model):
    source: Path
    destination: Path
    overwrite: bool = False
    parents: bool = True


class CopyFile(Model):
    source: Path
    destination: Path
    overwrite: bool = False
    parents: bool = True


class Replacement(Model):
    old_text: Annotated[str, Meta(min_length=1)]
    new_text: str
    all: bool = False


class EditFile(Model):
    path: Path
    edits: Annotated[list[Replacement], Meta(min_length=1, max_length=MAX_EDITS)]
    dry_run: bool = False


class SearchFiles(Model):
    path: Path = "."
    pattern: Annotated[str, Meta(min_length=1, max_length=4096)] = "*"
    exclude: Globs = msgspec.field(default_factory=list)
    content: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    regex: bool = False
    ignore_case: bool = False
    limit: Annotated[int, Meta(ge=1, le=MAX_ENTRIES)] = 1000
    max_lines: Annotated[int, Meta(ge=1, le=MAX_ENTRIES)] = 1000


# -- answers --


class File(msgspec.Struct, kw_only=True, omit_defaults=True):
    name: str
    path: str
    type: Literal["file", "directory", "symlink", "fifo", "socket", "device"]
    size: Bytes
    mode: str
    modified_at: str
    accessed_at: str
    changed_at: str
    target: str | None = None
    name_b64: str | None = None


class WrittenFile(File, kw_only=True):
    created: bool


class TextFile(File, kw_only=True):
    encoding: str
    content: str


class FileList(msgspec.Struct, kw_only=True):
    path: str
    entries: list[File]
    next_page_token: str | None


class Deleted(msgspec.Struct, kw_only=True):
    deleted: bool


class FileProblem(msgspec.Struct, kw_only=True):
    code: str
    message: str


class ReadFile(msgspec.Struct, kw_only=True):
    path: str
    content: str | None
    encoding: str | None
    size: int | None
    error: FileProblem | None


class ReadFilesAnswer(msgspec.Struct, kw_only=True):
    files: list[ReadFile]


class Edited(msgspec.Struct, kw_only=True):
    path: str
    changed: bool
    dry_run: bool
    diff: str


class Line(msgspec.Struct, kw_only=True):
    line: int
    column: int
    text: str


class Match(File, kw_only=True):
    lines: list[Line]


class Matches(msgspec.Struct, kw_only=True):
    path: str
    matches: list[Match]
    truncated: bool


class Unpacked(msgspec.Struct, kw_only=True):
    path: str
    entries: Bytes
    bytes: int


class FileEvent(msgspec.Struct, kw_only=True):
    seq: int
    type: Literal["watching", "create", "modify", "delete", "move", "overflow"]
    path: str
    path_type: Literal["file", "directory"]
    source: str | None
    time: float
