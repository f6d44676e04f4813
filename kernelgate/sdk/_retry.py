"""When to try again: pure, and told the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernelgate.sdk.settings import Retry


class Backoff:
    """Pauses that double up to a bound, until nothing was heard for `Retry.for_s`.

    Args:
        retry: the bounds.
        jitter: a number in [0, 1) that spreads many clients which lost one server at one moment.
    """

    def __init__(self, retry: Retry, jitter: float = 0.0) -> None:
        self._retry = retry
        self._jitter = jitter
        self._failing_since_at: float | None = None
        self._pause_s = retry.first_pause_s

    def succeeded(self) -> None:
        """The server gave a sign of life: the whole budget is there again."""
        self._failing_since_at = None
        self._pause_s = self._retry.first_pause_s

    def next_pause_s(self, now: float) -> float | None:
        """How long to wait after a failure at `now` (monotonic), None to give up."""
        if self._failing_since_at is None:
            self._failing_since_at = now
        left_s = self._failing_since_at + self._retry.for_s - now
        if left_s <= 0:
            return None
        pause_s = self._pause_s * (1 + self._jitter)
        self._pause_s = min(2 * self._pause_s, self._retry.max_pause_s)
        return min(pause_s, left_s)
