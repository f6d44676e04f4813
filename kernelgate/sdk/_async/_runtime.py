"""What differs between the two clients beyond keywords. `_sync/_runtime.py` is its only twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


async def sleep(seconds: float) -> None:
    """Waits. asyncio is imported here, as importing the SDK must not take the time for it."""
    import asyncio  # noqa: PLC0415

    await asyncio.sleep(seconds)


async def call(callback: Callable[..., Any], *arguments: Any) -> Any:
    """Calls back, and awaits what comes of it if it can be awaited."""
    from inspect import isawaitable  # noqa: PLC0415

    answer = callback(*arguments)
    return await answer if isawaitable(answer) else answer


async def open_socket(url: str, headers: dict[str, str], **options: Any) -> Any:
    """A WebSocket. Raises what websockets does."""
    from websockets.asyncio.client import connect  # noqa: PLC0415

    return await connect(url, additional_headers=headers, **options)
