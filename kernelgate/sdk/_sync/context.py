# Generated from kernelgate/sdk/_async/context.py by tests/tools/unasync.py: change that one.
"""Contexts: the kernels of a session, each with variables of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelgate.sdk import _wire
from kernelgate.sdk.models import Completion, ContextInfo, Inspection

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping

    from kernelgate.sdk._sync.transport import Transport


class Context:
    """One context. `info` is how it was when the server was last asked."""

    def __init__(self, contexts: Contexts, info: ContextInfo) -> None:
        self._contexts = contexts
        self.info: ContextInfo = info

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} {self.language} {self.info.state}>"

    @property
    def id(self) -> str:
        """What `context=` takes; the default context of a language has the language's name."""
        return self.info.id

    @property
    def name(self) -> str:
        """As given when it was made."""
        return self.info.name

    @property
    def language(self) -> str:
        """The language's own name, whatever alias it was made by."""
        return self.info.language

    def refresh(self) -> ContextInfo:
        """Asks the server again."""
        self.info = (self._contexts.get(self.id)).info
        return self.info

    def restart(self) -> ContextInfo:
        """Gives it a fresh kernel. What runs in it ends as `kernel_died`."""
        self.info = self._contexts.restart(self.id)
        return self.info

    def interrupt(self) -> list[str]:
        """Interrupts what runs in it; the ids of the executions concerned."""
        return self._contexts.interrupt(self.id)

    def delete(self) -> None:
        """Ends its kernel."""
        self._contexts.delete(self.id)

    def complete(self, code: str, cursor_pos: int | None = None) -> Completion:
        """What the kernel would complete at the cursor; by default the end of the code."""
        return self._contexts.complete(self.id, code, cursor_pos)

    def inspect(self, code: str, cursor_pos: int | None = None, *, detail_level: int = 0) -> Inspection:
        """What the kernel knows of the name at the cursor; by default the end of the code."""
        return self._contexts.inspect(self.id, code, cursor_pos, detail_level=detail_level)

    def is_complete(self, code: str) -> tuple[str, str]:
        """(`complete`, `incomplete`, `invalid` or `unknown`; the next line's indent)."""
        return self._contexts.is_complete(self.id, code)


class Contexts:
    """The contexts of one session: `session.contexts`."""

    def __init__(self, transport: Transport, session_id: str) -> None:
        self._transport = transport
        self._path = f"/v1/sessions/{_wire.quoted(session_id)}/contexts"

    def create(
        self,
        language: str = "python",
        *,
        name: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Context:
        """A new kernel beside the others.

        Args:
            language: any name or alias that `client.languages()` lists.
            name: for people.
            cwd: where it starts; `/workspace` by default.
            env: environment variables of its kernel.
        """
        optional = {"name": name, "cwd": cwd, "env": dict(env) if env else None}
        body = {key: value for key, value in optional.items() if value is not None}
        raw = self._transport.request("POST", self._path, body={"language": language, **body}, is_safe=False)
        return Context(self, ContextInfo.from_wire(raw))

    def list(self) -> builtins.list[Context]:
        """All contexts of the session, the default ones among them once they were used."""
        raw = self._transport.request("GET", self._path, is_safe=True)
        return [Context(self, ContextInfo.from_wire(one)) for one in raw.get("contexts") or ()]

    def get(self, context_id: str) -> Context:
        """One context.

        Raises:
            ContextNotFound: there is none of this id in the session.
        """
        raw = self._transport.request("GET", self._one(context_id), is_safe=True)
        return Context(self, ContextInfo.from_wire(raw))

    def delete(self, context_id: str) -> None:
        """Ends a context's kernel."""
        self._transport.delete(self._one(context_id))

    def restart(self, context_id: str) -> ContextInfo:
        """Gives a context a fresh kernel. What runs in it ends as `kernel_died`."""
        raw = self._transport.request("POST", f"{self._one(context_id)}/restart", is_safe=False)
        return ContextInfo.from_wire(raw)

    def interrupt(self, context_id: str) -> builtins.list[str]:
        """Interrupts what runs in a context; the ids of the executions concerned."""
        raw = self._transport.request("POST", f"{self._one(context_id)}/interrupt", is_safe=False)
        return list(raw.get("interrupted") or ())

    def complete(self, context_id: str, code: str, cursor_pos: int | None = None) -> Completion:
        """What the kernel would complete at the cursor; by default the end of the code."""
        body = {"code": code, "cursor_pos": len(code) if cursor_pos is None else cursor_pos}
        raw = self._transport.request("POST", f"{self._one(context_id)}/complete", body=body, is_safe=True)
        return Completion.from_wire(raw)

    def inspect(self, context_id: str, code: str, cursor_pos: int | None = None, *, detail_level: int = 0) -> Inspection:
        """What the kernel knows of the name at the cursor; by default the end of the code."""
        body = {
            "code": code,
            "cursor_pos": len(code) if cursor_pos is None else cursor_pos,
            "detail_level": detail_level,
        }
        raw = self._transport.request("POST", f"{self._one(context_id)}/inspect", body=body, is_safe=True)
        return Inspection.from_wire(raw)

    def is_complete(self, context_id: str, code: str) -> tuple[str, str]:
        """(`complete`, `incomplete`, `invalid` or `unknown`; the next line's indent)."""
        raw = self._transport.request("POST", f"{self._one(context_id)}/is_complete", body={"code": code}, is_safe=True)
        return raw.get("status") or "unknown", raw.get("indent") or ""

    def _one(self, context_id: str) -> str:
        return f"{self._path}/{_wire.quoted(context_id)}"
