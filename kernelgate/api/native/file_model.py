"""The models of `/v1/sessions/S/files`. Fields are described in docs/api.md."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from kernelgate.api.native.model import Bytes, Model
from kernelgate.errors import InvalidRequest

MAX_ENTRIES = 10_000
MAX_READ_PATHS = 1000
MAX_EDITS = 1000

Path = Annotated[str, Meta(min_length=1, max_length=4096)]
#: A path of any bytes, as base64: for names that are no UTF-8, which JSON cannot hold.
Encoded = Annotated[str, Meta(min_length=1, max_length=8192)]
Globs = Annotated[list[Annotated[str, Meta(min_length=1, max_length=4096)]], Meta(max_length=100)]


def exact_path(text: str | None, encoded: str | None, name: str) -> str:
    """A path as it was given: as text, or as base64 of its bytes. Raises InvalidRequest."""
    if text is not None and encoded is not None:
        raise InvalidRequest(f"{name}: give {name} or {name}_b64, not both")
    if encoded is None:
        if text is None:
            raise InvalidRequest(f"{name}: is missing")
        return text
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError) as exc:
        raise InvalidRequest(f"{name}_b64: this is no base64") from exc


def with_paths(body: Model) -> dict[str, Any]:
    """The fields of a request, with its paths as they are meant. Raises InvalidRequest."""
    fields = msgspec.structs.asdict(body)
    for name in [name.removesuffix("_b64") for name in fields if name.endswith("_b64")]:
        encoded = fields.pop(f"{name}_b64")
        if isinstance(body, SearchFiles) and encoded is None and fields[name] is None:
            fields[name] = "."
        fields[name] = exact_path(fields[name], encoded, name)
    return fields


class ReadFiles(Model):
    paths: Annotated[list[Path], Meta(min_length=1, max_length=MAX_READ_PATHS)]
    encoding: Annotated[str, Meta(max_length=64)] | None = None


class MakeDirectory(Model):
    path: Path | None = None
    path_b64: Encoded | None = None
    parents: bool = True
    exist_ok: bool = True


class Relocation(Model):
    """Of a copy or a move."""

    source: Path | None = None
    source_b64: Encoded | None = None
    destination: Path | None = None
    destination_b64: Encoded | None = None
    overwrite: bool = False
    parents: bool = True


class Replacement(Model):
    old_text: Annotated[str, Meta(min_length=1)]
    new_text: str
    all: bool = False


class EditFile(Model):
    edits: Annotated[list[Replacement], Meta(min_length=1, max_length=MAX_EDITS)]
    path: Path | None = None
    path_b64: Encoded | None = None
    dry_run: bool = False


class SearchFiles(Model):
    path: Path | None = None
    path_b64: Encoded | None = None
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
    path_b64: str | None = None


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
    path_b64: str | None = None
    source_b64: str | None = None
