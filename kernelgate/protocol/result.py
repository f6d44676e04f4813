"""The result of an execution, folded from its events: the outputs as a notebook would show them when all is done."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kernelgate.protocol.event import Event
from kernelgate.protocol.text import settle


def timestamp(at: float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Fold:
    """Feed it the events of one execution in order; `result()` is the result so far."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {
            "id": None, "request_id": None, "session_id": None, "context_id": None, "language": None,
            "state": "queued", "queue_position": None, "success": None, "status": None, "execution_count": None, "execution_time": None,
            "logs": {"stdout": [], "stderr": []}, "results": [], "error": None, "text": None,
            "truncated": None, "timeout": None, "death": None, "limit": None, "fresh_kernel": None,
            "created_at": None, "started_at": None, "ended_at": None, "last_seq": 0,
        }  # fmt: skip
        self._logs: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._results: list[tuple[str | None, dict[str, Any]]] = []
        self._artifacts: dict[str, Any] | None = None
        self._clear_next = False

    def feed(self, event: Event) -> None:  # noqa: C901 - one case for each type of event
        fields, kind = self._fields, event["type"]
        fields["last_seq"] = event["seq"]
        if kind in ("stdout", "stderr", "result", "error") and self._clear_next:
            self._clear()
        match kind:
            case "stdout" | "stderr":
                self._logs[kind].append(event["text"])
            case "result":
                self._results.append((event.get("display_id"), event["result"]))
            case "update":
                # Jupyter's rule: an update replaces the data of every display with that id and adds none.
                self._results = [
                    (known, {**event["result"], "is_main_result": old["is_main_result"]} if known == event["display_id"] else old)
                    for known, old in self._results
                ]
            case "clear":
                if event.get("wait"):
                    self._clear_next = True
                else:
                    self._clear()
            case "error":
                fields["error"] = fields["error"] or event["error"]
            case "truncated":
                self._logs[event["stream"]].append(f"\n[... {event['bytes']} bytes cut ...]\n")
            case "queued":
                fields.update(
                    id=event["execution_id"], request_id=event.get("request_id"), session_id=event.get("session_id"), context_id=event["context_id"],
                    language=event["language"], queue_position=event.get("position"), created_at=timestamp(event["time"]),
                )  # fmt: skip
            case "started":
                fields["started_at"] = fields["started_at"] or timestamp(event["time"])
                fields.update(state="running", queue_position=None)
                for name in ("execution_count", "fresh_kernel"):
                    if event.get(name) is not None:
                        fields[name] = event[name]
            case "artifacts":
                self._artifacts = {name: event[name] for name in ("files", "truncated", "error")}
            case "end":
                for name in ("status", "success", "execution_count", "execution_time", "truncated", "timeout", "death", "limit"):
                    fields[name] = event.get(name)
                fields.update(state="done", queue_position=None, ended_at=timestamp(event["time"]))
            case _:
                pass  # input_request, gap and the like leave no trace in a result

    def _clear(self) -> None:
        self._clear_next = False
        self._logs = {"stdout": [], "stderr": []}
        self._results = []
        self._fields["error"] = None

    def result(self) -> dict[str, Any]:
        logs = {name: settle("".join(parts)) for name, parts in self._logs.items()}
        results = [item for _, item in self._results]
        return {
            **self._fields,
            "logs": {name: [text] if text else [] for name, text in logs.items()},
            "results": results,
            "text": _text(results, logs["stdout"]),
            "artifacts": self._artifacts,
        }


def _text(results: list[dict[str, Any]], stdout: str) -> str:
    """The convenience text: of the main result, else of the first result that has one, else all of stdout."""
    for wanted in (True, False):
        for item in results:
            if item["is_main_result"] is wanted and isinstance(item.get("text"), str):
                return str(item["text"])
    return stdout
