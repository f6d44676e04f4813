"""`/api`, `/api/me`, `/api/status`, `/api/spec.yaml`, and paths that are not there."""

from __future__ import annotations

import json
import time
from typing import Any

from tornado import web

import kernelgate
from kernelgate.api.base import BaseHandler
from kernelgate.api.jupyter import handler
from kernelgate.api.jupyter.handler import JupyterHandler
from kernelgate.errors import InvalidRequest
from kernelgate.protocol.result import timestamp

_STARTED = time.time()


class VersionHandler(JupyterHandler):
    """`/api`. Anybody may ask."""

    authenticated = False

    async def get(self) -> None:
        self.send({"version": kernelgate.__version__})


class MeHandler(JupyterHandler):
    """`/api/me`: whose token it is, and with `?permissions=` what of that it may do: all."""

    async def get(self) -> None:
        text = self.get_query_argument("permissions", "") or "{}"
        try:
            permissions = json.loads(text)
        except ValueError:
            permissions = None
        if not isinstance(permissions, dict) or not all(
            isinstance(actions, list) and all(isinstance(action, str) for action in actions) for actions in permissions.values()
        ):
            raise InvalidRequest(f'permissions should be a JSON dict of {{"resource": ["action",]}}, got {text[:200]!r}')
        name = self.token.name
        identity = {
            "username": self.token.id,
            "name": name,
            "display_name": name,
            "initials": name[:2].upper(),
            "avatar_url": None,
            "color": None,
        }
        self.send({"identity": identity, "permissions": {**permissions, "updatable_fields": []}})


class StatusHandler(JupyterHandler):
    """`/api/status`: of the token's own kernels."""

    async def get(self) -> None:
        kernels = await handler.describe_all(self)
        last = max((kernel["last_activity"] for kernel in kernels), default=timestamp(_STARTED))
        self.send({
            "started": timestamp(_STARTED), "last_activity": last, "kernels": len(kernels), "connections": sum(kernel["connections"] for kernel in kernels),
        })  # fmt: skip


class SpecHandler(JupyterHandler):
    """`/api/spec.yaml`: what of Jupyter's API is here. JSON, which is YAML too."""

    authenticated = False

    async def get(self) -> None:
        self.set_header("Content-Type", "text/x-yaml; charset=utf-8")
        self.finish(json.dumps(_document(self.base_url), indent=1))


class NowhereHandler(JupyterHandler):
    """What is not there: 404 for those with a token, 401 for others."""

    def admit(self) -> None:
        super().admit()
        raise web.HTTPError(404)


class FrontPageHandler(JupyterHandler):
    """`/tree`, and the bare prefix: clients look here, without a token, for a login page. There is none: 404 for anybody."""

    authenticated = False

    def admit(self) -> None:
        super().admit()
        raise web.HTTPError(404)


class RootHandler(BaseHandler):
    """`/`, where the same clients look first. It is of no door, and answers in the native API's shape."""

    authenticated = False

    def admit(self) -> None:
        super().admit()
        raise web.HTTPError(404)


def _document(base_url: str) -> dict[str, Any]:
    done, error = {"description": "Done"}, {"description": "An error", "schema": {"$ref": "#/definitions/Error"}}

    def call(summary: str, status: int, answer: str | None = None, *, many: bool = False, body: str | None = None) -> dict[str, Any]:
        schema = {"$ref": f"#/definitions/{answer}"} if answer else None
        made: dict[str, Any] = {
            "summary": summary,
            "responses": {
                str(status): {**done, **({"schema": {"type": "array", "items": schema} if many else schema} if schema else {})},
                "default": error,
            },
        }
        if body:
            made["parameters"] = [{"name": "body", "in": "body", "required": False, "schema": {"$ref": f"#/definitions/{body}"}}]
        return made

    def path(name: str) -> list[dict[str, Any]]:
        return [{"name": name, "in": "path", "required": True, "type": "string"}]

    text, number = {"type": "string"}, {"type": "integer"}
    kernel = {"id": text, "name": text, "last_activity": text, "execution_state": text, "connections": number}
    return {
        "swagger": "2.0",
        "info": {"title": "Jupyter's API, as kernelgate serves it", "version": kernelgate.__version__},
        "basePath": base_url,
        "produces": ["application/json"],
        "consumes": ["application/json"],
        "securityDefinitions": {
            "token": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "`token TOKEN` or `Bearer TOKEN`"},
            "query": {"type": "apiKey", "in": "query", "name": "token"},
        },
        "security": [{"token": []}, {"query": []}],
        "paths": {
            "/api": {"get": call("The version", 200)},
            "/api/me": {"get": call("Who asks", 200)},
            "/api/status": {"get": call("How many kernels and connections there are", 200)},
            "/api/kernelspecs": {"get": call("The kernels that can be had", 200)},
            "/api/kernelspecs/{kernel_name}": {"parameters": path("kernel_name"), "get": call("One of them", 200)},
            "/api/kernels": {
                "get": call("The kernels that run", 200, "Kernel", many=True),
                "post": call("Start a kernel", 201, "Kernel", body="NewKernel"),
            },
            "/api/kernels/{kernel_id}": {
                "parameters": path("kernel_id"),
                "get": call("A kernel", 200, "Kernel"),
                "delete": call("End a kernel", 204),
            },
            "/api/kernels/{kernel_id}/interrupt": {"parameters": path("kernel_id"), "post": call("Interrupt a kernel", 204)},
            "/api/kernels/{kernel_id}/restart": {"parameters": path("kernel_id"), "post": call("Restart a kernel", 200, "Kernel")},
            "/api/kernels/{kernel_id}/channels": {"parameters": path("kernel_id"), "get": call("The kernel's WebSocket", 101)},
            "/api/sessions": {
                "get": call("The documents that are open", 200, "Session", many=True),
                "post": call("Open a document", 201, "Session", body="Session"),
            },
            "/api/sessions/{session}": {
                "parameters": path("session"),
                "get": call("A document", 200, "Session"),
                "patch": call("Rename it, or give it another kernel", 200, "Session", body="Session"),
                "delete": call("Close it, and end its kernel", 204),
            },
        },
        "definitions": {
            "Error": {"type": "object", "properties": {"message": text, "reason": text}},
            "Kernel": {"type": "object", "required": list(kernel), "properties": {**kernel, "reason": text}},
            "NewKernel": {
                "type": "object",
                "properties": {"name": text, "path": text, "kernel_id": text, "env": {"type": "object", "additionalProperties": text}},
            },
            "Session": {
                "type": "object",
                "properties": {"id": text, "path": text, "name": text, "type": text, "kernel": {"$ref": "#/definitions/Kernel"}},
            },
        },
    }
