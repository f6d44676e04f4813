"""The state machine of one execution.

Theory of operation. An execution has two halves that the kernel moves on its own, over two sockets with no order between them:

    reply half:  QUEUED -> SENT -> REPLIED        the shell channel's execute_reply
    iopub half:  SILENT -> BUSY -> IDLE           the broadcast status messages that name this execution as parent

It is done when REPLIED and IDLE have both been reached, in either order, or when the kernel is gone (LOST takes it from any state). A kernel that replies and never
says idle is waited for `IDLE_GRACE_S`, since some publish their last outputs late. What arrives after the end is kept, marked `late`.

The machine is pure: messages, the time and decisions go in, (type, fields) pairs for the journal come out. Text beyond the limit is cut in the middle: the head goes out
as it comes, the rest runs through a ring of `TAIL_BYTES` that is let out at the end.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from kernelgate.protocol import limit, mime
from kernelgate.protocol.jupyter import Message
from kernelgate.protocol.text import strip_ansi, utf8_bytes

Emit = tuple[str, dict[str, Any]]

#: How long to wait for the idle status of an execution whose reply has come. Deno publishes results up to about a second after it.
IDLE_GRACE_S = 2.0
#: Of the reasons to stop an execution, those that are limits, and the limit's name.
_TIMES = {"timeout": "wall_time", "cpu_time": "cpu_time"}
#: Kept of the end of a text that is over its limit.
TAIL_BYTES = 64 * 1024
#: A stream message is cut into events of at most this many characters, so that readers can work in small steps.
TEXT_EVENT_CHARS = 128 * 1024
#: Events of one execution, its late ones included: each costs the journal a hundred bytes, also one without content. Beyond, text is cut to its tail, and displays are cut.
MAX_EVENTS = 500_000
#: Code raises once; what else comes as an error is kept so often, and of each text of it so many characters.
MAX_ERRORS, MAX_ERROR_CHARS = 8, 4 * 1024 * 1024
MAX_DISPLAY_ID_CHARS = 1024
_DISPLAYS = ("display_data", "execute_result", "update_display_data", "clear_output")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one execution may put out. Texts are cut head and tail, results beyond the limit are replaced by a note."""

    output_bytes: int = 10 * 1024 * 1024
    result_bytes: int = 50 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Death:
    """Why a kernel is gone. `reason`: exited, signalled, out_of_memory, restarted, released (never used), start_failed. `limit`: the session's limit that ended it."""

    reason: str
    exit_code: int | None = None
    signal: str | None = None
    message: str = ""
    limit: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"reason": self.reason, "exit_code": self.exit_code, "signal": self.signal, "message": self.message}


@dataclass(slots=True)
class Execution:
    """One execution. `stop` says who asked it to end early: timeout, cpu_time, interrupted or cancelled."""

    id: str
    context_id: str
    limits: Limits = field(default_factory=Limits)
    ansi: bool = False
    timeout_s: float | None = None
    cpu_time_s: float | None = None
    msg_id: str = ""
    sent_at: float | None = None
    replied_at: float | None = None
    idle: bool = False
    done: bool = False
    stop: str | None = None
    restarted: bool = False
    execution_count: int | None = None
    fresh_kernel: str | None = None
    waiting_for_input: bool = False
    display_ids: set[str] = field(default_factory=set)
    _reply: dict[str, Any] = field(default_factory=dict)
    _started: bool = False
    _heard_at: float = 0.0
    _error_seen: bool = False
    _error_limit: str | None = None
    _text_bytes: int = 0
    _result_bytes: int = 0
    _ring: deque[tuple[str, str, int]] = field(default_factory=deque)
    _ring_bytes: int = 0
    _held: bool = False
    _events: int = 0
    _errors: int = 0
    _cut: dict[str, int] = field(default_factory=lambda: {"stdout_bytes": 0, "stderr_bytes": 0, "result_bytes": 0})

    def sent(self, msg_id: str, now: float) -> None:
        assert self.sent_at is None
        self.msg_id, self.sent_at = msg_id, now

    def message(self, channel: str, message: Message, now: float) -> list[Emit]:
        """What a message that names this execution as its parent means. After the end, outputs come out marked late."""
        if channel == "iopub":
            self._heard_at = now
        emits = self._iopub(message) if channel == "iopub" else self._other(channel, message, now)
        self._events += len(emits)
        if self.done:
            return [(kind, {**fields, "late": True}) for kind, fields in emits if kind in ("stdout", "stderr", "result", "update", "clear")]
        if self.replied_at is not None and self.idle:
            emits += self.finish(now)
        return emits

    def _other(self, channel: str, message: Message, now: float) -> list[Emit]:
        if channel == "stdin" and message.msg_type == "input_request" and self._events < MAX_EVENTS:
            self.waiting_for_input = True
            return [
                ("input_request", {"prompt": str(message.content.get("prompt") or ""), "password": bool(message.content.get("password"))})
            ]
        if channel == "shell" and message.msg_type == "execute_reply" and self.replied_at is None:
            self.replied_at, self._reply = now, message.content
            count = message.content.get("execution_count")
            if isinstance(count, int):
                self.execution_count = count
            return self._start()
        return []

    def _start(self) -> list[Emit]:
        if self._started:
            return []
        self._started = True
        return [("started", {"execution_count": self.execution_count, "fresh_kernel": self.fresh_kernel})]

    def _iopub(self, message: Message) -> list[Emit]:
        content = message.content
        if self._events >= MAX_EVENTS and message.msg_type in _DISPLAYS:
            self._cut["result_bytes"] += max(1, mime.size_bytes(mime.item(content.get("data"), is_main_result=False, metadata=None)))
            return []
        match message.msg_type:
            case "status":
                if content.get("execution_state") == "idle":
                    self.idle = True
                return []
            case "execute_input":
                count = content.get("execution_count")
                if isinstance(count, int):
                    self.execution_count = count
                return self._start()
            case "stream":
                return self._start() + self._text("stderr" if content.get("name") == "stderr" else "stdout", content.get("text"))
            case "display_data" | "execute_result":
                return self._start() + self._result(content, is_main=message.msg_type == "execute_result")
            case "update_display_data":
                made = self._result(content, is_main=False)
                return [("update", fields) for kind, fields in made if kind == "result" and fields.get("display_id")]
            case "clear_output":
                return [("clear", {"wait": bool(content.get("wait"))})]
            case "error":
                return self._start() + self._error(content)
            case _:
                return []  # comms and what else a kernel may broadcast

    def _text(self, stream: str, text: Any) -> list[Emit]:
        if not isinstance(text, str) or not text:
            return []
        emits: list[Emit] = []
        for start in range(0, len(text), TEXT_EVENT_CHARS):
            part = text if len(text) <= TEXT_EVENT_CHARS else text[start : start + TEXT_EVENT_CHARS]
            size = utf8_bytes(part)
            room = self.limits.output_bytes - min(TAIL_BYTES, self.limits.output_bytes // 2) - self._text_bytes
            if self.done:
                room = self.limits.output_bytes - self._text_bytes  # nothing will let the ring out any more
            held = (self._held or self._events >= MAX_EVENTS) and not self.done
            if self.done and self._events >= MAX_EVENTS:
                room = 0
            if held or size > room:
                if not held and room > 0:
                    head, part = _split(part, room)
                    self._text_bytes += utf8_bytes(head)
                    emits += [(stream, {"text": head})] if head else []
                    size = utf8_bytes(part)
                self._hold(stream, part, size)
            else:
                self._text_bytes += size
                emits.append((stream, {"text": part}))
        return emits

    def _hold(self, stream: str, text: str, size: int) -> None:
        limit = self.limits.output_bytes - self._text_bytes
        if self._events >= MAX_EVENTS:
            limit = min(limit, TAIL_BYTES)
        if self.done:
            self._cut[f"{stream}_bytes"] += size
            return
        self._held = True  # from here on nothing goes out before it, also where all of it was cut
        self._ring.append((stream, text, size))
        self._ring_bytes += size
        while self._ring_bytes > limit and self._ring:
            old_stream, old, old_size = self._ring.popleft()
            excess = self._ring_bytes - limit
            if old_size > excess:
                head, rest = _split(old, excess)
                if utf8_bytes(head) < excess:
                    head, rest = old[: len(head) + 1], old[len(head) + 1 :]  # a character that straddles the cut goes with the head
                cut = utf8_bytes(head)
                self._ring.appendleft((old_stream, rest, old_size - cut))
            else:
                cut = old_size
            self._ring_bytes -= cut
            self._cut[f"{old_stream}_bytes"] += cut

    def _drain(self) -> list[Emit]:
        emits: list[Emit] = [
            ("truncated", {"stream": name, "bytes": cut}) for name in ("stdout", "stderr") if (cut := self._cut[f"{name}_bytes"])
        ]
        for stream, pieces in itertools.groupby(self._ring, key=lambda piece: piece[0]):
            if text := "".join(piece[1] for piece in pieces):
                emits.append((stream, {"text": text}))
        self._ring.clear()
        self._text_bytes += self._ring_bytes  # what comes late shares the limit
        self._ring_bytes = 0
        return emits

    def _result(self, content: dict[str, Any], *, is_main: bool) -> list[Emit]:
        item = mime.item(content.get("data"), is_main_result=is_main, metadata=content.get("metadata"))
        size = mime.size_bytes(item)
        if self._result_bytes + size > self.limits.result_bytes:
            self._cut["result_bytes"] += size
            item = {
                "is_main_result": is_main,
                "text": f"[a result of {size} bytes was cut: results of this execution are limited to {self.limits.result_bytes} bytes]",
            }
        else:
            self._result_bytes += size
        fields: dict[str, Any] = {"result": item}
        transient = content.get("transient")
        display_id = transient.get("display_id") if isinstance(transient, dict) else None
        if isinstance(display_id, str) and 0 < len(display_id) <= MAX_DISPLAY_ID_CHARS:
            fields["display_id"] = display_id
            self.display_ids.add(display_id)
        return [("result", fields)]

    def _error(self, content: dict[str, Any]) -> list[Emit]:
        self._error_seen = True
        self._errors += 1
        if self._errors > MAX_ERRORS:
            return []
        if self.stop in _TIMES:
            return []  # finish() names the timeout; the KeyboardInterrupt is only how it was done
        traceback = content.get("traceback")
        lines = [str(line) for line in traceback] if isinstance(traceback, list) else []
        error = {"name": str(content.get("ename") or "Error"), "value": str(content.get("evalue") or ""), "traceback": "\n".join(lines)}
        error = {name: value[:MAX_ERROR_CHARS] for name, value in error.items()}
        if not self.ansi:
            error = {name: strip_ansi(value) for name, value in error.items()}
        self._error_limit = limit.of_error(error["name"], error["value"])
        return [("error", {"error": error})]

    @property
    def exits(self) -> bool:
        """Whether the kernel said in its reply that it ends now (the code called exit)."""
        payload = self._reply.get("payload")
        return isinstance(payload, list) and any(
            isinstance(one, dict) and one.get("source") == "ask_exit" and not one.get("keepkernel") for one in payload
        )

    @property
    def failed(self) -> bool:
        """Whether the kernel replied that the code raised something."""
        return self._reply.get("status") == "error"

    @property
    def stoppable(self) -> bool:
        """Whether there is anything to interrupt: once the kernel has replied, only outputs are still on their way."""
        return not self.done and self.replied_at is None

    def wake_at(self) -> float | None:
        """When to call `wake`: the end of the wait for idle. Every message that comes meanwhile puts it off: of a host that is behind, idle is still ahead."""
        return None if self.done or self.replied_at is None else max(self.replied_at, self._heard_at) + IDLE_GRACE_S

    def wake(self, now: float) -> list[Emit]:
        at = self.wake_at()
        return self.finish(now) if at is not None and now >= at else []

    def reply_lost(self, now: float) -> list[Emit]:
        """It has ended, but nobody was there to hear how."""
        self._reply = {"status": "lost"}
        return self.finish(now)

    def lost(self, death: Death, now: float) -> list[Emit]:
        """The kernel is gone, or the execution was taken out of the queue with `stop` set."""
        if self.done:
            return []
        return self.finish(now, death)

    def finish(self, now: float, death: Death | None = None) -> list[Emit]:
        """The last events of the execution. Text that was held back comes first, then the error, then `end`."""
        emits = self._drain()
        timeout = None
        reply_status = self._reply.get("status")
        met = death.limit if death is not None else None
        if self.stop in _TIMES:
            status, met = "timeout", _TIMES[self.stop]
            action = "restart" if self.restarted else "interrupt"
            after_s = self.timeout_s if self.stop == "timeout" else self.cpu_time_s
            timeout = {"after_s": after_s, "action": action}
            what = "ran longer than" if self.stop == "timeout" else "used more processor time than"
            kept = (
                "its variables are kept"
                if action == "interrupt"
                else "it did not react to the interrupt and its kernel was restarted, variables are gone"
            )
            emits.append(
                (
                    "error",
                    {
                        "error": {
                            "name": "ExecutionTimeout",
                            "value": f"the code {what} {after_s:g} s; {kept}",
                            "traceback": "",
                        }
                    },
                )
            )
        elif self.stop is not None and (death is not None or reply_status != "ok" or self.sent_at is None):
            status = self.stop
            if not self._error_seen:
                emits.append(
                    (
                        "error",
                        {
                            "error": {
                                "name": "ExecutionCancelled" if self.stop == "cancelled" else "KeyboardInterrupt",
                                "value": "",
                                "traceback": "",
                            }
                        },
                    )
                )
        elif death is not None:
            status = "kernel_died"
            emits.append(("error", {"error": {"name": "KernelDied", "value": death.message, "traceback": ""}}))
        elif reply_status == "ok":
            status = "ok"
        elif reply_status == "lost":
            status = "lost"
            emits.append(
                (
                    "error",
                    {
                        "error": {
                            "name": "ReplyLost",
                            "value": "the execution ended while the session host was restarted; how is not known",
                            "traceback": "",
                        }
                    },
                )
            )
        else:
            status = "error"
            if not self._error_seen:
                if reply_status == "error":
                    emits += self._error(self._reply)
                else:
                    emits.append(
                        (
                            "error",
                            {"error": {"name": "ExecutionAborted", "value": f"the kernel answered {reply_status!r}", "traceback": ""}},
                        )
                    )
        self.done = True
        self.waiting_for_input = False
        if status == "error":
            met = met or self._error_limit
        truncated = dict(self._cut) if any(self._cut.values()) else None
        emits.append((
            "end",
            {
                "status": status, "success": status == "ok", "execution_count": self.execution_count,
                "execution_time": round(now - self.sent_at, 6) if self.sent_at is not None else 0.0,
                "truncated": truncated, "timeout": timeout, "death": death.as_dict() if death else None,
                "limit": met or ("output" if truncated else None),
            },
        ))  # fmt: skip
        return emits


def _split(text: str, size: int) -> tuple[str, str]:
    """The longest head of at most `size` UTF-8 bytes, and the rest."""
    if text.isascii():
        return text[:size], text[size:]
    head = text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
    return text[: len(head)], text[len(head) :]
