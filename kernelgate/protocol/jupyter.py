"""The Jupyter wire: signed multipart messages (jupyter_client's messaging documentation, protocol 5.3 and later)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from kernelgate.errors import RemoteProtocolError
from kernelgate.protocol import jsontext

DELIMITER = b"<IDS|MSG>"
PROTOCOL_VERSION = "5.4"
#: A message is put together for its signature, but not a large one.
_JOINED_BYTES = 64 * 1024


@dataclass(slots=True)
class Message:
    """One message from a kernel. `parent_id` is "" where the kernel named no parent."""

    msg_type: str
    msg_id: str
    parent_id: str
    header: dict[str, Any]
    parent_header: dict[str, Any]
    metadata: dict[str, Any]
    content: dict[str, Any]
    buffers: list[bytes] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    """As they came: the four JSON texts, then the buffers."""


class Wire:
    """Signs what is sent and checks what comes, for one kernel and one client session.

    `session` and the counter make message ids that name the execution they belong to, so that a new host can recognise replies to its predecessor's requests.
    """

    def __init__(self, key: str, session: str) -> None:
        self._key = key.encode()
        self.session = session
        self._numbers = count(1)

    def _sign(self, frames: list[bytes]) -> bytes:
        if not self._key:
            return b""
        if len(frames[-1]) <= _JOINED_BYTES:
            # One call of the library's instead of six of Python's.
            return hmac.digest(self._key, b"".join(frames), "sha256").hex().encode()
        mac = hmac.new(self._key, digestmod="sha256")
        for frame in frames:
            mac.update(frame)
        return mac.hexdigest().encode()

    def new_id(self, tag: str) -> str:
        return f"{self.session}:{tag}:{next(self._numbers)}"

    def encode(
        self,
        msg_type: str,
        content: dict[str, Any],
        *,
        msg_id: str,
        metadata: dict[str, Any] | None = None,
        parent_header: dict[str, Any] | None = None,
    ) -> list[bytes]:
        header = {
            "msg_id": msg_id,
            "session": self.session,
            "username": "kernelgate",
            "date": datetime.now(UTC).isoformat(),
            "msg_type": msg_type,
            "version": PROTOCOL_VERSION,
        }
        frames = [*map(jsontext.dump, (header, parent_header or {}, metadata or {}, content))]
        return [DELIMITER, self._sign(frames), *frames]

    def seal(self, parts: list[bytes]) -> list[bytes]:
        """Somebody else's message, signed: its four JSON texts and its buffers, as they are."""
        return [DELIMITER, self._sign(parts[:4]), *parts]

    def decode(self, frames: list[bytes]) -> Message:
        """A message from its frames.

        Fields that kernels are known to leave out (parent headers, metadata) become empty; anything else that is wrong raises.

        Raises:
            RemoteProtocolError: no delimiter, too few frames, wrong signature, not JSON objects, no type.
        """
        try:
            start = frames.index(DELIMITER)
        except ValueError:
            raise RemoteProtocolError("a kernel sent a message without delimiter") from None
        if len(frames) < start + 6:
            raise RemoteProtocolError("a kernel sent a message with too few frames")
        signature, parts = frames[start + 1], frames[start + 2 : start + 6]
        if self._key and not hmac.compare_digest(self._sign(parts), bytes(signature)):
            raise RemoteProtocolError("a kernel sent a message with a wrong signature")
        try:
            header, parent, metadata, content = map(jsontext.load, parts)
        except (ValueError, RecursionError) as exc:
            raise RemoteProtocolError("a kernel sent a message that is not JSON") from exc
        if not isinstance(header, dict) or not isinstance(content, dict) or not isinstance(header.get("msg_type"), str):
            raise RemoteProtocolError("a kernel sent a message without a type or content")
        parent = parent if isinstance(parent, dict) else {}
        parent_id = parent.get("msg_id")
        return Message(
            msg_type=header["msg_type"],
            msg_id=str(header.get("msg_id", "")),
            parent_id=parent_id if isinstance(parent_id, str) else "",
            header=header,
            parent_header=parent,
            metadata=metadata if isinstance(metadata, dict) else {},
            content=content,
            buffers=frames[start + 6 :],
            parts=frames[start + 2 :],
        )
