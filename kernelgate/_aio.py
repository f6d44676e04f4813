"""The few things every asyncio program here needs: owned tasks, and clean-up that finishes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


async def taken(write: asyncio.Future[Any], within_s: float) -> None:
    """Waits for a write, at most that long. Raises TimeoutError, and what the write raises.

    Not asyncio.timeout: Tornado does not expect its futures to be cancelled.
    """
    done, _ = await asyncio.wait({write}, timeout=within_s)
    if not done:
        write.add_done_callback(looked_at)
        raise TimeoutError
    await write


def looked_at(future: asyncio.Future[Any]) -> None:
    """For one that nobody awaits any more: asyncio complains of exceptions that were never seen."""
    if not future.cancelled():
        future.exception()


class Tasks:
    """Tasks with an owner: all of them end with it. The only place that makes tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str, *, awaited: bool = False) -> asyncio.Task[Any]:
        """`awaited`: its starter waits for it and deals with its failure, which is then no failure of ours to log."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard if awaited else self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
