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
