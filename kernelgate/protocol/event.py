"""Events: the numbered records of a session's journal, one JSON object a line.

A line is pure ASCII (so that no reader's idea of a line break can cut it) and always begins with `seq` and `execution_id`, in this order and without spaces, so that
the events of one execution can be picked out without parsing the rest.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from kernelgate.protocol import jsontext

Event = dict[str, Any]

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

# In JSON of ASCII alone: an escaped backslash (after which "ud800" is just text), a pair of surrogates, and a half one, which Unicode text cannot have and strict readers refuse.
_SURROGATES = re.compile(r"\\\\|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|\\ud[89a-f][0-9a-f]{2}")

_TYPE = re.compile(rb'\{"seq":\d+,"execution_id":(?:null|"[^"]*"),"type":"([a-z_]+)"')

#: What an execution, and what a command, begins with.
EXECUTION, COMMAND = "queued", "command"
FIRST = frozenset({EXECUTION, COMMAND})

#: What may be large, and says nothing of how an execution went.
OUTPUTS = frozenset({"stdout", "stderr", "result", "update", "truncated", "artifacts"})


def encode(seq: int, execution_id: str | None, kind: str, time: float, fields: dict[str, Any]) -> bytes:
    """One line of the journal, line feed included."""
    event = {"seq": seq, "execution_id": execution_id, "type": kind, "time": round(time, 6), **fields}
    line = jsontext.dump(event)
    if line.isascii() and b"\\ud" not in line:
        return line + b"\n"
    try:
        text = _encode(event)
    except ValueError:
        text = _encode(_finite(event))
    if "\\ud" in text:
        text = _SURROGATES.sub(_whole, text)
    return text.encode() + b"\n"


def _whole(found: re.Match[str]) -> str:
    return "\\ufffd" if len(found[0]) == 6 else found[0]  # the length of one escape


def decode(line: bytes) -> Event:
    """An event from its line. Raises ValueError where the line is not one."""
    event = jsontext.load(line)
    if not isinstance(event, dict) or not isinstance(event.get("seq"), int) or not isinstance(event.get("type"), str):
        raise ValueError("not an event")  # noqa: TRY004 - what a line says, not what a caller passed
    return event


def marker(execution_id: str) -> bytes:
    """What the lines of this execution have right after their sequence number."""
    return b',"execution_id":' + json.dumps(execution_id).encode() + b',"'


def belongs(line: bytes, mark: bytes) -> bool:
    """Whether a line is of the execution that `mark` (see `marker`) was made for."""
    return line.startswith(mark, line.find(b",", 0, 32))


def seq_of(line: bytes) -> int:
    """The sequence number of a line, without parsing it. Raises ValueError where there is none."""
    if not line.startswith(b'{"seq":'):
        raise ValueError("not an event")
    return int(line[7 : line.index(b",", 7, 40)])


def type_of(line: bytes) -> str:
    """The type of a line, without parsing the rest. "" where there is none."""
    found = _TYPE.match(line)
    return found[1].decode() if found else ""


def _finite(value: Any) -> Any:
    # JSON has no NaN and no infinity, and clients refuse them; null is what pandas and plotly write too.
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
