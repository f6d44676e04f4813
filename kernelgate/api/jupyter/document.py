"""`/api/sessions`: documents and their kernels."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from kernelgate.api.jupyter import handler
from kernelgate.api.jupyter.handler import JupyterHandler
from kernelgate.errors import InvalidRequest, LanguageNotInstalled, NotFound, UnsupportedLanguage
from kernelgate.sessions.frontend import DocumentRow


class WantedKernel(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class LegacyNotebook(msgspec.Struct):
    """Of clients of the first version of this API."""

    path: str | None = None
    name: str | None = None


class WantedDocument(msgspec.Struct):
    path: str | None = None
    name: str | None = None
    type: str | None = None
    kernel: WantedKernel | None = None
    notebook: LegacyNotebook | None = None


class _Documents(JupyterHandler):
    async def describe(self, row: DocumentRow) -> dict[str, Any]:
        """The model. Raises NotFound where the kernel is gone."""
        kernel = await handler.describe(self, handler.find(self, row.kernel_id))
        model: dict[str, Any] = {"id": row.id, "path": row.path, "name": row.name, "type": row.type, "kernel": kernel}
        if row.type == "notebook":
            model["notebook"] = {"path": row.path, "name": row.name}
        return model

    def find_document(self, session_id: str) -> DocumentRow:
        row = self.frontends.document(session_id)
        if row is None:
            raise NotFound(f"Session not found: {session_id}")
        return row

    async def kernel_for(self, wanted: WantedKernel) -> str:
        """The id of an existing kernel, or of a new one."""
        if wanted.id:
            return str((await handler.describe(self, handler.find(self, wanted.id)))["id"])
        return str((await handler.create(self, wanted.name, {}, None))["id"])

    def no_such_kernel(self, exc: InvalidRequest, name: str | None) -> None:
        self.set_status(501)
        self.finish(json.dumps({"message": exc.detail, "short_message": f"{name} not found", "reason": exc.code}))


class DocumentsHandler(_Documents):
    """`/api/sessions`"""

    async def get(self) -> None:
        """Those whose kernels live. 200."""
        kernels = {model["id"]: model for model in await handler.describe_all(self)}
        models = []
        for row in self.frontends.documents():
            if row.kernel_id in kernels:
                models.append(await self.describe(row))
            else:
                self.frontends.remove_document(row.id)
        self.send(models)

    async def post(self) -> None:
        """Opens a document with a kernel; one whose path is open already is that one. 201; 400; 501 for a kernel that is not there."""
        body = self.body(WantedDocument)
        if body.notebook is not None:
            body.type, body.path = "notebook", body.notebook.name or body.notebook.path
        if body.path is None or body.type is None:
            raise InvalidRequest(f"Missing field in JSON data: {'path' if body.path is None else 'type'}")
        row = self.frontends.document_at(body.path)
        model: dict[str, Any] | None = None
        if row is not None:
            try:
                model = await self.describe(row)
            except NotFound:
                self.frontends.remove_document(row.id)
        if model is None:
            wanted = body.kernel or WantedKernel()
            try:
                kernel_id = await self.kernel_for(wanted)
            except (UnsupportedLanguage, LanguageNotInstalled) as exc:
                self.no_such_kernel(exc, wanted.name)
                return
            model = await self.describe(self.frontends.add_document(kernel_id, body.path, body.name or "", body.type))
        self.set_header("Location", f"{self.base_url}api/sessions/{model['id']}")
        self.send(model, 201)


class DocumentHandler(_Documents):
    """`/api/sessions/ID`"""

    async def get(self, session_id: str) -> None:
        """200; 404, also where its kernel is gone."""
        self.send(await self.describe(self.find_document(session_id)))

    async def patch(self, session_id: str) -> None:
        """Renames it, or gives it another kernel; the one before, where it was made for it, ends. 200, 400, 404, 501."""
        row, body = self.find_document(session_id), self.body(WantedDocument)
        changes: dict[str, Any] = {name: value for name in ("path", "name", "type") if (value := getattr(body, name)) is not None}
        if body.notebook is not None and body.notebook.path is not None:
            changes["path"] = body.notebook.path
        if body.kernel is not None and (body.kernel.id or body.kernel.name):
            try:
                changes["kernel_id"] = await self.kernel_for(body.kernel)
            except (UnsupportedLanguage, LanguageNotInstalled) as exc:
                self.no_such_kernel(exc, body.kernel.name)
                return
        self.frontends.update_document(row.id, **changes)
        if changes.get("kernel_id", row.kernel_id) != row.kernel_id:
            await self._end(row)
        self.send(await self.describe(self.find_document(session_id)))

    async def delete(self, session_id: str) -> None:
        """Closes it and ends its kernel, where that was made for it. 204; 404; 410 where the kernel was gone before."""
        row = self.find_document(session_id)
        self.frontends.remove_document(row.id)
        if await self._end(row):
            self.set_status(204)
            self.finish()
        else:
            self.set_status(410)
            self.finish(json.dumps({"message": "Kernel deleted before session", "reason": "kernel_gone"}))

    async def _end(self, row: DocumentRow) -> bool:
        """Ends the kernel of a closed document, unless others have it or it is of a session that no frontend made. Whether it was there."""
        try:
            kernel = handler.find(self, row.kernel_id)
            if kernel.row is not None and all(other.kernel_id != row.kernel_id for other in self.frontends.documents()):
                await handler.delete(self, kernel)
        except NotFound:
            return False
        return True
