"""What the calls of `session.file_system` give back."""

from __future__ import annotations

import base64
import os
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO, Self

    from kernelgate.sdk.models import Json

__all__ = ["FileEdit", "FileEvent", "FileInfo", "FileMatch", "FileText"]


def named(path: str | bytes, name: str = "path") -> dict[str, str]:
    """A path as the server takes it: bytes that are no UTF-8, also where a text has them in Python's own way, as base64."""
    data = path if isinstance(path, bytes) else os.fsencode(path)
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_b64": base64.b64encode(data).decode()}


def _known(cls: type[Any], raw: Json) -> dict[str, Any]:
    names = {one.name for one in fields(cls)}
    return {name: value for name, value in raw.items() if name in names}


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """A file, directory or link in a session.

    Attributes:
        type: file, directory, symlink, fifo, socket or device.
        size: in bytes.
        mode: permissions, as four octal digits.
        modified_at: RFC 3339 in UTC, as the other times.
        target: where a link leads.
        success: always true; what goes wrong is raised.
    """

    name: str
    path: str
    type: str
    size: int
    mode: str = ""
    modified_at: str = ""
    accessed_at: str = ""
    changed_at: str = ""
    target: str | None = None
    path_b64: str | None = None
    success: bool = True

    @property
    def raw_path(self) -> bytes:
        """The path as it is, to give back to any call: `path` shows what is no UTF-8 as question marks."""
        return os.fsencode(self.path) if self.path_b64 is None else base64.b64decode(self.path_b64)

    @classmethod
    def from_wire(cls, raw: Json) -> Self:
        """From what the server sent."""
        return cls(**_known(cls, raw))

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.type == "directory"

    @property
    def is_file(self) -> bool:
        """Whether it is a file."""
        return self.type == "file"


@dataclass(frozen=True, kw_only=True)
class FileText:
    """The content of a file: text, or bytes where those were asked for."""

    path: str
    content: Any
    success: bool = True

    def __str__(self) -> str:
        return str(self.content)


@dataclass(frozen=True, kw_only=True)
class FileEdit:
    """What an edit did, or with `dry_run` would do: `diff` is in unified form."""

    path: str
    changed: bool
    dry_run: bool
    diff: str
    success: bool = True

    @classmethod
    def from_wire(cls, raw: Json) -> Self:
        """From what the server sent."""
        return cls(**_known(cls, raw))


@dataclass(frozen=True, kw_only=True)
class FileMatch(FileInfo):
    """A file that was found; `lines` has its lines that match: {line, column, text}."""

    lines: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class FileEvent:
    """Something that happened in a watched directory.

    Attributes:
        type: create, modify, delete, move (from `source`), or overflow: some were missed, list again.
    """

    type: str
    path: str
    path_type: str = "file"
    source: str | None = None
    time: float = 0.0
    path_b64: str | None = None

    @property
    def raw_path(self) -> bytes:
        """The path as it is, to give to any call: `path` shows what is no UTF-8 as question marks."""
        return os.fsencode(self.path) if self.path_b64 is None else base64.b64decode(self.path_b64)

    @classmethod
    def from_wire(cls, raw: Json) -> Self:
        """From what the server sent."""
        return cls(**_known(cls, raw))


@contextmanager
def open_local(path: str | Path) -> Iterator[tuple[BinaryIO, int]]:
    """A file of this machine, for reading, and its size in bytes."""
    with Path(path).open("rb") as file:
        yield file, os.fstat(file.fileno()).st_size


class Partial:
    """A file of this machine that gets its name when it is whole, and otherwise is removed."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._partial = Path(f"{path}.part")
        self._file = self._partial.open("wb")
        self.size: int = 0

    def add(self, piece: bytes) -> None:
        """Writes on."""
        self._file.write(piece)
        self.size += len(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)
