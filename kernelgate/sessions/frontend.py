"""What must be remembered of notebook frontends' kernels and documents, beyond the sessions themselves. It is in the registry's file, so that a gateway that dies forgets nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from kernelgate import ids
from kernelgate.sessions.registry import Registry


@dataclass(frozen=True)
class KernelRow:
    """A kernel that a frontend made: its session is the kernel's own, and ends with it."""

    id: str
    session_id: str
    context: str
    name: str


@dataclass(frozen=True)
class DocumentRow:
    """What Jupyter calls a session: a document and its kernel."""

    id: str
    kernel_id: str
    path: str
    name: str
    type: str


class Frontends:
    """One token's kernels and documents. Holds nothing itself."""

    def __init__(self, registry: Registry, token_id: str) -> None:
        self._db, self._token_id = registry.db, token_id

    def kernels(self) -> list[KernelRow]:
        rows = self._db.execute("SELECT id, session_id, context, name FROM frontend_kernels WHERE token_id = ?", (self._token_id,))
        return [KernelRow(*row) for row in rows]

    def kernel(self, kernel_id: str) -> KernelRow | None:
        return next((row for row in self.kernels() if row.id == kernel_id), None)

    def add_kernel(self, row: KernelRow) -> None:
        values = (row.id, self._token_id, row.session_id, row.context, row.name)
        self._db.execute("INSERT OR REPLACE INTO frontend_kernels VALUES (?, ?, ?, ?, ?)", values)

    def remove_kernel(self, kernel_id: str) -> None:
        self._db.execute("DELETE FROM frontend_kernels WHERE token_id = ? AND id = ?", (self._token_id, kernel_id))

    def documents(self) -> list[DocumentRow]:
        rows = self._db.execute(
            "SELECT id, kernel_id, path, name, type FROM frontend_documents WHERE token_id = ? ORDER BY created_at", (self._token_id,)
        )
        return [DocumentRow(*row) for row in rows]

    def document(self, document_id: str) -> DocumentRow | None:
        return next((row for row in self.documents() if row.id == document_id), None)

    def document_at(self, path: str) -> DocumentRow | None:
        return next((row for row in self.documents() if row.path == path), None)

    def add_document(self, kernel_id: str, path: str, name: str, kind: str) -> DocumentRow:
        row = DocumentRow(ids.new_document_id(), kernel_id, path, name, kind)
        values = (row.id, self._token_id, kernel_id, path, name, kind, time.time())
        self._db.execute("INSERT INTO frontend_documents VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        return row

    def update_document(self, document_id: str, **changes: Any) -> None:
        for name in ("kernel_id", "path", "name", "type"):
            if name in changes:
                self._db.execute(f"UPDATE frontend_documents SET {name} = ? WHERE id = ?", (changes[name], document_id))  # noqa: S608 - fixed names

    def remove_document(self, document_id: str) -> None:
        self._db.execute("DELETE FROM frontend_documents WHERE id = ?", (document_id,))
