"""Artifacts: files that a run made or changed, returned with its result.

What is said of them comes from a process of the session's own user, which the session's code may have taken over: it is taken apart here, and put together anew.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, quote_from_bytes

#: So many files at the most are told of.
MAX_FILES = 1000
_TEXTS = ("name", "path", "mode", "modified_at")
_MAX_TEXT = 64 * 1024


def fields(said: Any, session_id: str) -> dict[str, Any]:
    """The fields of an `artifacts` event, from what a worker said. Raises ValueError where it said something else."""
    if not isinstance(said, dict) or not isinstance(said.get("files"), list) or len(said["files"]) > MAX_FILES:
        raise ValueError("not a list of files")
    return {"files": [_file(one, session_id) for one in said["files"]], "truncated": said.get("truncated") is True, "error": None}


def _file(said: Any, session_id: str) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise ValueError("not a file")  # noqa: TRY004 - what was said, not what a caller passed
    made: dict[str, Any] = {name: _text(said.get(name)) for name in _TEXTS}
    made["size"] = said["size"] if isinstance(said.get("size"), int) else 0
    encoding, content = said.get("encoding"), said.get("content")
    whole = encoding in ("utf-8", "base64") and isinstance(content, str)
    made["encoding"], made["content"] = (encoding, content) if whole else (None, None)
    query = "path=" + quote(made["path"], safe="/")
    if "path_b64" in said:
        made["path_b64"] = _text(said["path_b64"])
        query = "path_b64=" + quote_from_bytes(made["path_b64"].encode())
    made["href"] = f"/v1/sessions/{session_id}/files/content?{query}"
    return made


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError("not a text")
    return value.encode("utf-8", "replace").decode()
