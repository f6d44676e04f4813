"""Streams as callers read them: events while they happen, not when all is over."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from tests.support.server import Api

NDJSON, SSE = "application/x-ndjson", "text/event-stream"


@contextlib.contextmanager
def stream(
    api: Api, method: str, path: str, *, accept: str = NDJSON, headers: dict[str, str] | None = None, **options: Any
) -> Iterator[Iterator[dict[str, Any]]]:
    """An open stream: an iterator of its events, keepalives included. Leaving the block closes the connection."""
    with api.http.stream(method, path, headers={"Accept": accept, **(headers or {})}, **options) as response:
        if response.status_code != 200:
            response.read()
        assert response.status_code == 200, response.text
        assert response.headers["Content-Type"].split(";")[0] == accept
        yield _ndjson(response.iter_lines()) if accept == NDJSON else _sse(response.iter_lines())


def execute(api: Api, session: str, code: str, **body: Any) -> contextlib.AbstractContextManager[Iterator[dict[str, Any]]]:
    """Runs code; its events."""
    return stream(api, "POST", f"/v1/sessions/{session}/executions", json={"code": code, **body})


def until(events: Iterator[dict[str, Any]], kind: str, **fields: Any) -> list[dict[str, Any]]:
    """The events up to and with the first of this type (and these fields)."""
    seen = []
    for event in events:
        seen.append(event)
        if event["type"] == kind and all(event.get(name) == value for name, value in fields.items()):
            return seen
    raise AssertionError(f"the stream ended without {kind}: {[event['type'] for event in seen]}")


def _ndjson(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        yield json.loads(line)


def _sse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """By the rules of the specification: fields up to an empty line, comments left out (here: a keepalive)."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            yield {"type": "keepalive"}
        elif not line:
            if fields:
                event = json.loads(fields["data"])
                assert fields["event"] == event["type"]
                assert "seq" not in event or fields["id"] == str(event["seq"])
                yield event
            fields = {}
        else:
            name, _, value = line.partition(": ")
            fields[name] = value
