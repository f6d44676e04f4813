"""What differs between the two clients beyond keywords. Twin of `_async/_runtime.py`, by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def sleep(seconds: float) -> None:
    """Waits."""
    time.sleep(seconds)


def call(callback: Callable[..., Any], *arguments: Any) -> Any:
    """Calls back."""
    return callback(*arguments)


def open_socket(url: str, headers: dict[str, str], **options: Any) -> Any:
    """A WebSocket. Raises what websockets does."""
    from websockets.sync.client import connect  # noqa: PLC0415

    # Entered here and left by `close`: whose `with` block it serves is another object's.
    return connect(url, additional_headers=headers, **options).__enter__()
