"""Identifiers: how they are made and which ones callers may choose.

Session and context ids are lower case letters and digits only, so that they fit into a host name label, a file name and a URL without quoting.
"""

from __future__ import annotations

import re
import secrets
import uuid

_CALLER_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}\Z")
_SESSION_ID = re.compile(r"s[a-z2-7]{19}\Z")


#: For each value of a byte one of 32 characters, each for eight of them.
_CHARACTERS = b"abcdefghijklmnopqrstuvwxyz234567" * 8


def _random(length: int) -> str:
    return secrets.token_bytes(length).translate(_CHARACTERS).decode()


def new_session_id() -> str:
    """A session id: `s` and 19 characters, 95 bits of randomness."""
    return "s" + _random(19)


def new_context_id() -> str:
    return "c" + _random(11)


def new_execution_id() -> str:
    return "x" + _random(19)


def new_document_id() -> str:
    """Of a Jupyter session; what frontends expect looks like a UUID."""
    return str(uuid.uuid4())


def new_request_id() -> str:
    return "req-" + _random(16)


def is_session_id(value: str) -> bool:
    return _SESSION_ID.match(value) is not None


def is_caller_id(value: str) -> bool:
    """Whether a caller may use this as an execution or request id."""
    return _CALLER_ID.match(value) is not None
