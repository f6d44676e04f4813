"""`/api/kernels`: create, list, get, interrupt, restart, delete."""

from __future__ import annotations

from typing import Any

import msgspec

from kernelgate.api.jupyter import handler
from kernelgate.api.jupyter.handler import JupyterHandler
from kernelgate.errors import NotFound, SessionClosed


class CreateKernel(msgspec.Struct):
    """`path` is a document's on the client's side, and means nothing here. Fields of other servers are passed over."""

    name: str | None = None
    path: str | None = None
    env: dict[str, str] = {}
    kernel_id: str | None = None


class KernelsHandler(JupyterHandler):
    """`/api/kernels`"""

    async def get(self) -> None:
        """Every kernel of the token. 200."""
        self.send(await handler.describe_all(self))

    async def post(self) -> None:
        """Makes a kernel. 201; 400 for a kernel that is not there, or an environment that is refused; 429; 503."""
        given: CreateKernel | None = self.body(CreateKernel | None)  # type: ignore[arg-type]
        body = CreateKernel() if given is None else given
        model = await handler.create(self, body.name, body.env, body.kernel_id)
        self.set_header("Location", f"{self.base_url}api/kernels/{model['id']}")
        self.send(model, 201)


class KernelHandler(JupyterHandler):
    """`/api/kernels/ID`"""

    async def get(self, kernel_id: str) -> None:
        """200, 404."""
        self.send(await handler.describe(self, handler.find(self, kernel_id)))

    async def delete(self, kernel_id: str) -> None:
        """204; 404 the second time."""
        await handler.delete(self, handler.find(self, kernel_id))
        self.set_status(204)
        self.finish()


class KernelActionHandler(JupyterHandler):
    """`/api/kernels/ID/interrupt`, `/api/kernels/ID/restart`"""

    async def post(self, kernel_id: str, action: str) -> None:
        """Interrupt: 204. Restart: 200 and the model when the new kernel is ready for messages; 502 where it cannot start. 404."""
        kernel = handler.find(self, kernel_id)
        operation = {"interrupt": "frontend_interrupt", "restart": "context_restart"}[action]
        with kernel.session:
            try:
                await handler.ask(self.services, kernel.session, operation, context=kernel.context)
            except (NotFound, SessionClosed) as exc:
                raise NotFound(f"Kernel does not exist: {kernel_id}") from exc
            if action == "restart":
                model: dict[str, Any] = await handler.describe(self, kernel)
                self.send(model)
                return
        self.set_status(204)
        self.finish()
