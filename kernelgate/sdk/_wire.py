"""Bytes to records, and queries to strings: what both clients share, without I/O."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from kernelgate.sdk import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kernelgate.sdk.models import Json


def new_id(prefix: str = "") -> str:
    """A new id that no other client will choose."""
    return prefix + os.urandom(16).hex()


class Records:
    """Takes NDJSON in pieces of any size, gives whole records.

    Lines end in newline bytes only. A text splitter would also break lines at U+2028 or U+0085,
    which stand unescaped in JSON strings.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Json]:
        """The records that `data` completes.

        Raises:
            UnexpectedAnswer: a line is no JSON object.
        """
        *ends, rest = data.split(b"\n")
        for end in ends:
            # Pieces of a long line are joined once, at its end: a 50 MB picture comes in thousands.
            line = b"".join((*self._parts, end))
            self._parts.clear()
            if line.strip():
                yield _record(line)
        if rest:
            self._parts.append(rest)


def _record(line: bytes) -> Json:
    try:
        found: Any = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        message = f"the stream has a line that is no record: {line[:80]!r}"
        raise errors.UnexpectedAnswer(message)
    return found


def decode(content: bytes, *, status: int, request_id: str | None) -> Json:
    """The body of an answer that must be a JSON object; an empty one is an empty object.

    Raises:
        KernelgateError: the answer is an error, or is not kernelgate's.
    """
    try:
        found: Any = json.loads(content) if content else {}
    except ValueError:
        found = None
    if status >= 400:
        error = found.get("error") if isinstance(found, dict) else None
        if not isinstance(error, dict):
            message = f"status {status}, without an error of kernelgate's"
            cls = errors.ServerUnavailable if status in (502, 503, 504) else errors.UnexpectedAnswer
            raise cls(message, status=status, request_id=request_id)
        raise errors.from_wire(error, status=status, request_id=request_id)
    if not isinstance(found, dict):
        message = f"the answer is no JSON object: {content[:80]!r}"
        raise errors.UnexpectedAnswer(message, status=status, request_id=request_id)
    return found


def query(parameters: Mapping[str, Any]) -> dict[str, list[str]]:
    """Query parameters as the server reads them; what is None is left out."""
    found: dict[str, list[str]] = {}
    for name, value in parameters.items():
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if one is not None:
                text = str(one).lower() if isinstance(one, bool) else str(one)
                found.setdefault(name, []).append(text)
    return found


def quoted(part: str) -> str:
    """One part of a path. Ids have no special characters; what a caller passes as one may."""
    from urllib.parse import quote  # noqa: PLC0415

    if not part or part in {".", ".."}:
        message = f"{part!r} is no id"
        raise errors.InvalidUse(message)
    return quote(part, safe="")
