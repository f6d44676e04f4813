"""What code puts out, on a terminal or into a pipe, while it comes."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from kernelgate.sdk import events
from kernelgate.sdk.events import Clear, Cut, End, ErrorRaised, Event, Gap, KernelChanged, Queued, Shown, Started, Stderr, Stdout, Updated

if TYPE_CHECKING:
    from typing import TextIO

    from kernelgate.cli._pictures import Pictures
    from kernelgate.sdk import ResultItem

__all__ = ["EventPrinter", "Screen", "duration", "events"]

# Silence is told after this long; shorter ones are not worth the flicker.
_QUIET_S = 1.0
_TICK_S = 0.5


def duration(seconds: float) -> str:
    """A time for people: `0.3 s`, `12 s`, `3 min 20 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


class Screen:
    """Two streams that may be one terminal, and a line on it that says how long code has been silent.

    The line is on standard error, only if that is a terminal, and is gone before anything else is written.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._lock = threading.Lock()
        self._at_line_start = True
        self._status = ""
        self._status_shown = False
        self._begun_at = 0.0
        self._heard_at = 0.0
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    @property
    def is_terminal(self) -> bool:
        """Standard output is a terminal."""
        return self._out.isatty()

    def begin(self, status: str) -> None:
        """From now on silence is told, as `status` and the time since."""
        with self._lock:
            self._status = status
            self._begun_at = self._heard_at = time.monotonic()
        if self._ticker is None and self._err.isatty():
            self._stop.clear()
            self._ticker = threading.Thread(target=self._tick, name="kernelgate-elapsed", daemon=True)
            self._ticker.start()

    def end(self) -> None:
        """Silence is no longer told."""
        if self._ticker is not None:
            self._stop.set()
            self._ticker.join()
            self._ticker = None
        with self._lock:
            self._status = ""
            self._hide()

    def status(self, status: str) -> None:
        """What the silence is about."""
        with self._lock:
            self._status = status

    def out(self, text: str) -> None:
        """Writes as standard output, as it is."""
        self._write(self._out, text)

    def err(self, text: str) -> None:
        """Writes as standard error, as it is."""
        self._write(self._err, text)

    def out_line(self, text: str) -> None:
        """Writes text that begins a line of its own, and ends it."""
        self._write_line(self._out, text)

    def err_line(self, text: str) -> None:
        """The same on standard error."""
        self._write_line(self._err, text)

    def finish_line(self) -> None:
        """Ends a line that was begun and not ended, so that a prompt can follow."""
        if not self._at_line_start:
            self.out("\n")

    def note(self, text: str) -> None:
        """Says something of our own, apart from what the code says."""
        self.err_line(f"\x1b[2m[{text}]\x1b[0m" if self._err.isatty() else f"[{text}]")

    def _write_line(self, stream: TextIO, text: str) -> None:
        start = "" if self._at_line_start else "\n"
        self._write(stream, f"{start}{text}" if text.endswith("\n") else f"{start}{text}\n")

    def _write(self, stream: TextIO, text: str) -> None:
        if not text:
            return
        with self._lock:
            self._hide()
            stream.write(text)
            stream.flush()
            self._at_line_start = text.endswith(("\n", "\r"))
            self._heard_at = time.monotonic()

    def _hide(self) -> None:
        if self._status_shown:
            self._err.write("\r\x1b[2K")
            self._err.flush()
            self._status_shown = False

    def _tick(self) -> None:
        while not self._stop.wait(_TICK_S):
            with self._lock:
                now = time.monotonic()
                # On a line that the code has begun, a prompt maybe, there is no place for it.
                if self._status and self._at_line_start and now - self._heard_at >= _QUIET_S:
                    self._err.write(f"\r\x1b[2K\x1b[2m{self._status} {duration(now - self._begun_at)}\x1b[0m")
                    self._err.flush()
                    self._status_shown = True


class EventPrinter:
    """Shows the events of one execution.

    Attributes:
        ended: its last event, None until then.
    """

    def __init__(self, screen: Screen, pictures: Pictures) -> None:
        self._screen = screen
        self._pictures = pictures
        self._said_error = False
        self.ended: End | None = None

    def show(self, event: Event) -> None:
        """Shows an event."""
        screen = self._screen
        match event:
            case Stdout():
                screen.out(event.text)
            case Stderr():
                screen.err(event.text)
            case Shown() | Updated():
                self.show_item(event.result)
            case ErrorRaised():
                self._said_error = True
                screen.err_line(event.error.traceback or str(event.error))
            case Queued() if event.position:
                screen.status(f"waiting behind {event.position}")
            case KernelChanged() if event.event == "starting":
                screen.status(f"starting {event.context_id}")
            case Started():
                screen.status("running")
                if event.fresh_kernel:
                    screen.note(f"fresh kernel, without the variables of before: {event.fresh_kernel}")
            case Clear():
                # Text that went by cannot be taken back; a progress bar's next state just follows.
                pass
            case Gap():
                screen.note(f"output may be missing here: {event.reason}")
            case Cut():
                screen.note(f"{event.size_bytes} bytes of {event.stream} were cut")
            case End():
                self._show_end(event)
            case _:
                pass

    def show_item(self, item: ResultItem) -> None:
        """Shows one thing the code showed."""
        sequence = self._pictures.inline(item)
        if sequence is not None:
            self._screen.out_line(sequence)
            return
        file = self._pictures.save(item)
        if file is not None:
            self._screen.note(f"saved {file}")
        else:
            self._screen.out_line(str(item))

    def _show_end(self, end: End) -> None:
        self.ended = end
        if end.truncated is not None:
            cut = end.truncated
            self._screen.note(f"output was cut: {cut.stdout_bytes + cut.stderr_bytes} bytes of text, {cut.result_bytes} of results")
        if end.success:
            return
        if end.timeout is not None:
            how = "its kernel was restarted, variables are gone" if end.timeout.action == "restart" else "it was interrupted"
            self._screen.note(f"out of time after {duration(end.timeout.after_s)}: {how}")
        elif end.death is not None:
            self._screen.note(f"the kernel died: {end.death.message or end.death.reason}")
        elif not self._said_error:
            self._screen.note(end.status)
