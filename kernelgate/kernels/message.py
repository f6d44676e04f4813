"""Jupyter's messages as the Python kernel reads and writes them: jupyter_client's session, without what costs time at every message."""

from __future__ import annotations

from datetime import UTC, datetime
from hmac import compare_digest, digest
from typing import Any

from jupyter_client._version import protocol_version
from jupyter_client.adapter import adapt
from jupyter_client.session import DELIM, DONE, Session

from kernelgate.kernels.packing import unpack

#: A message is put together for its signature, but not a large one.
_JOINED_BYTES = 64 * 1024


class Header(dict[str, Any]):
    """A message's header, with the bytes that it came as."""

    packed: bytes


class WireSession(Session):
    """jupyter_client's session, but dates stay text, and a parent's header is sent on as it came."""

    def msg_header(self, msg_type: str) -> dict[str, Any]:
        """A header for a message that is made now."""
        return {
            "msg_id": self.msg_id, "msg_type": msg_type, "username": self.username, "session": self.session,
            "date": datetime.now(UTC).isoformat().replace("+00:00", "Z"), "version": protocol_version,
        }  # fmt: skip

    def sign(self, msg_list: list[bytes]) -> bytes:
        """The signature of a message's parts; empty without a key."""
        if self.auth is None:
            return b""
        if len(msg_list[-1]) > _JOINED_BYTES:
            return super().sign(msg_list)
        # One call of the library's instead of six of Python's.
        return digest(self.key, b"".join(msg_list), self.signature_scheme[5:]).hex().encode()

    def deserialize(self, msg_list: Any, content: bool = True, copy: bool = True) -> dict[str, Any]:
        """A message from its parts, signature first. Raises ValueError, TypeError."""
        if not content or not copy:
            return super().deserialize(msg_list, content, copy)
        if len(msg_list) < 5:
            message = "a message has five parts at least"
            raise TypeError(message)
        signature, header, parent, metadata, body, *buffers = msg_list
        if self.auth is not None:
            if not compare_digest(signature, self.sign(msg_list[1:5])):
                message = "invalid signature"
                raise ValueError(message)
            if signature in self.digest_history:
                message = "a message that was sent before"
                raise ValueError(message)
            self._add_digest(signature)
        unpacked = Header(unpack(header))
        unpacked.packed = header
        made = {
            "header": unpacked, "msg_id": unpacked["msg_id"], "msg_type": unpacked["msg_type"], "parent_header": unpack(parent),
            "metadata": unpack(metadata), "content": unpack(body), "buffers": [memoryview(buffer) for buffer in buffers],
        }  # fmt: skip
        if unpacked.get("version", "").partition(".")[0] != "5":
            adapted: dict[str, Any] = adapt(made)
            return adapted
        return made

    def serialize(self, msg: dict[str, Any], ident: Any = None) -> list[bytes]:
        """The parts of a message, identities first."""
        content, parent, metadata = msg.get("content"), msg["parent_header"], msg["metadata"]
        body = [
            self.pack(msg["header"]),
            parent.packed if type(parent) is Header else self.pack(parent),
            self.pack(metadata) if metadata else b"{}",
            content if isinstance(content, bytes) else self.pack(content or {}),
        ]
        idents = ident if isinstance(ident, list) else [] if ident is None else [ident]
        return [*idents, DELIM, self.sign(body), *body]

    def send(self, stream: Any, msg_or_type: Any, content: Any = None, parent: Any = None, ident: Any = None, buffers: Any = None, track: bool = False, header: Any = None, metadata: Any = None) -> Any:  # fmt: skip
        """Sends by whatever has `send_multipart`. The message."""
        if isinstance(msg_or_type, dict):
            msg = msg_or_type
            buffers = buffers or msg.get("buffers")
        else:
            msg = self.msg(msg_or_type, content, parent, header, metadata)
        parts: list[Any] = self.serialize(msg, ident)
        for buffer in buffers or ():
            view = memoryview(buffer)
            if not view.contiguous:
                message = "a buffer of a message must be contiguous"
                raise ValueError(message)
            parts.append(view.cast("B") if view.c_contiguous else view.tobytes("A"))
        stream.send_multipart(parts)
        msg["tracker"] = DONE
        return msg
