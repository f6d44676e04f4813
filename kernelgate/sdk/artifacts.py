"""Files that a run made or changed, returned with its result."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelgate.sdk import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self, TypeAlias

    from kernelgate.sdk.models import Json

    Wanted: TypeAlias = Sequence[str] | Mapping[str, Any]

__all__ = ["Artifact", "Artifacts"]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that a run made or changed.

    Attributes:
        path: in the session, from its root.
        modified_at: RFC 3339 in UTC.
        has_content: its bytes came with it; else `session.file_system` has them, as long as it is there.
        href: where they are on the server.
    """

    name: str
    path: str
    size: int
    mode: str = ""
    modified_at: str = ""
    encoding: str | None = None
    href: str = ""
    content: str | None = field(default=None, repr=False)
    path_b64: str | None = None

    @classmethod
    def from_wire(cls, raw: Json) -> Self:
        """From the server's own shape."""
        return cls(**{name: raw[name] for name in cls.__dataclass_fields__ if name in raw})

    @property
    def has_content(self) -> bool:
        """Whether its bytes came with it."""
        return self.content is not None

    def as_bytes(self) -> bytes:
        """Its bytes.

        Raises:
            InvalidUse: they did not come with it, as there was no room for them.
        """
        if self.content is None:
            message = f"{self.path} did not come with the result: it has {self.size} bytes"
            raise errors.InvalidUse(
                message, hint="read it by session.file_system, or ask for more with artifacts={'patterns': [...], 'max_bytes': ...}"
            )
        return base64.b64decode(self.content) if self.encoding == "base64" else self.content.encode()

    def save(self, path: str | Path | None = None) -> Path:
        """Writes it to a file of this machine, by default to its name in the working directory; which."""
        target = Path(path if path is not None else Path(self.name).name)
        target.write_bytes(self.as_bytes())
        return target


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """What a run made or changed, of what was asked for: to go through, or by name or path (`artifacts["plot.png"]`).

    Attributes:
        truncated: there are more of them.
        error: why they could not be looked for, None where they were.
    """

    files: list[Artifact] = field(default_factory=list)
    truncated: bool = False
    error: str | None = None

    @classmethod
    def from_wire(cls, raw: Json | None) -> Self | None:
        """From the server's own shape; None where none were asked for."""
        if raw is None:
            return None
        error: Json | None = raw.get("error")
        return cls(
            files=[Artifact.from_wire(one) for one in raw.get("files") or ()],
            truncated=bool(raw.get("truncated")),
            error=None if error is None else str(error.get("message")),
        )

    def __iter__(self) -> Iterator[Artifact]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, name: str) -> Artifact:
        for one in self.files:
            if name in (one.path, one.name) or one.path.endswith(f"/{name}"):
                return one
        raise KeyError(name)


def wanted(artifacts: Wanted | None) -> Any:
    """As the server takes them."""
    if artifacts is None:
        return None
    if isinstance(artifacts, str):
        message = f"artifacts: a list of paths and globs is expected, got the text {artifacts!r}"
        raise errors.InvalidUse(message)
    return dict(artifacts) if isinstance(artifacts, Mapping) else list(artifacts)
