"""The limits of a session by name, and which of them an error speaks of."""

from __future__ import annotations

#: What `limit` of a result can be.
NAMES = ("memory", "processes", "cpu_time", "wall_time", "output", "file_size", "open_files", "workspace", "tmp", "shm")

#: The system's words for what has run out, the same in every language that passes them on. Of a full file system they do not say which: the session's host looks.
_WORDS = (
    ("file too large", "file_size"),
    ("too many open files", "open_files"),
    ("can't start new thread", "processes"),
    ("unable to create native thread", "processes"),
    ("cannot fork", "processes"),
    ("fork: retry", "processes"),
    ("disk quota exceeded", "workspace"),
    ("cannot allocate memory", "memory"),
    ("cannot allocate vector", "memory"),
    ("java heap space", "memory"),
)
_ERRORS = {"MemoryError": "memory", "OutOfMemoryError": "memory", "java.lang.OutOfMemoryError": "memory"}


def of_error(name: str, value: str) -> str | None:
    """The limit that an error of the code names: nothing that is sure, for code can raise what it likes; it is in its own result alone."""
    text = value[:1000].lower()
    return next((limit for words, limit in _WORDS if words in text), _ERRORS.get(name))
