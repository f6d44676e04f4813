"""What the server tells of terminals."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

    from kernelgate.sdk.models import Json

__all__ = ["TerminalInfo"]


@dataclass(frozen=True, kw_only=True)
class TerminalInfo:
    """A terminal.

    Attributes:
        state: running or done.
        exit_code: of its shell, None while it runs; 128 and the signal's number where one ended it.
        attached: how many are connected to it.
    """

    id: str
    shell: str = ""
    cwd: str = ""
    rows: int = 24
    cols: int = 80
    pid: int | None = None
    state: str = "running"
    exit_code: int | None = None
    attached: int = 0
    created_at: str = ""

    @classmethod
    def from_wire(cls, raw: Json) -> Self:
        """From what the server sent."""
        names = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in raw.items() if name in names})


def said(message: str) -> dict[str, Any]:
    """A text message of a terminal's socket."""
    found: Any = json.loads(message)
    return found if isinstance(found, dict) else {}
