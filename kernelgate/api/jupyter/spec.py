"""`/api/kernelspecs`: the languages as Jupyter's kernels, and their logos."""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import Any
from urllib.parse import unquote

from kernelgate import languages
from kernelgate.api.jupyter.handler import PYTHON_ALIAS, Door, JupyterHandler
from kernelgate.errors import InvalidRequest, NotFound

_TYPES = {"svg": "image/svg+xml", "png": "image/png"}
_LOGOS = ("logo-32x32.png", "logo-64x64.png", "logo-svg.svg")


def _logo(language: str, file: str) -> bytes | None:
    found = resources.files("kernelgate.api.jupyter").joinpath("logos", language, file)
    return found.read_bytes() if file in _LOGOS and found.is_file() else None


def _model(door: Door, name: str, language: languages.Language) -> dict[str, Any]:
    display_name = f"{language.display_name} (ipykernel)" if name == PYTHON_ALIAS else language.display_name
    logos = {file.rpartition(".")[0]: f"{door.base_url}kernelspecs/{name}/{file}" for file in _LOGOS if _logo(language.name, file)}
    return {
        "name": name,
        "spec": {
            "argv": list(language.argv), "display_name": display_name, "language": language.language, "env": {}, "interrupt_mode": language.interrupt_mode,
            "metadata": {}, "kernel_protocol_version": "5.4",
        },
        "resources": logos,
    }  # fmt: skip


def _specs(door: Door) -> dict[str, Any]:
    """By name: every installed language, and `python3`, which is what notebooks call Python."""
    found = languages.load(door.services.keeper.node.python["prefix"])
    specs = {}
    for language in found.values():
        if language.ready:
            if language.name == "python":
                specs[PYTHON_ALIAS] = _model(door, PYTHON_ALIAS, language)
            specs[language.name] = _model(door, language.name, language)
    return specs


class SpecsHandler(JupyterHandler):
    """`/api/kernelspecs`"""

    async def get(self) -> None:
        """200. `?user=NAME/KERNEL`, which gateway clients ask where they mean one kernel of a user, answers that one."""
        specs = await asyncio.to_thread(_specs, self)
        _, slash, name = self.get_query_argument("user", "").partition("/")
        if slash:
            self.send(_one(specs, name))
            return
        prefix = self.services.keeper.node.python["prefix"]
        default = self.default_kernel
        if default not in specs:
            default = (await asyncio.to_thread(languages.resolve, default, prefix)).name
        self.send({"default": default, "kernelspecs": specs})


class SpecHandler(JupyterHandler):
    """`/api/kernelspecs/NAME`"""

    async def get(self, kernel_name: str) -> None:
        """200, 404. Other names of a language (`ir`, `js`) are good too."""
        specs, name = await asyncio.to_thread(_specs, self), unquote(kernel_name)
        if name not in specs:
            try:
                language = languages.resolve(name, self.services.keeper.node.python["prefix"])
            except InvalidRequest as exc:
                raise NotFound(f"Kernel spec {name} not found") from exc
            self.send(_model(self, name, language))
            return
        self.send(specs[name])


def _one(specs: dict[str, Any], name: str) -> Any:
    if name not in specs:
        raise NotFound(f"Kernel spec {name} not found")
    return specs[name]


class ResourceHandler(JupyterHandler):
    """`/kernelspecs/NAME/FILE`: logos. Pictures in a page cannot send a token, and these are no secret."""

    authenticated = False

    async def get(self, kernel_name: str, file: str) -> None:
        """200, 404; GET and HEAD."""
        try:
            name = languages.resolve(unquote(kernel_name), self.services.keeper.node.python["prefix"]).name
        except InvalidRequest:
            name = ""
        data = await asyncio.to_thread(_logo, name, file)
        if data is None:
            raise NotFound(f"Kernel spec {kernel_name} has no {file[:100]!r}")
        self.set_header("Content-Type", _TYPES[file.rpartition(".")[2]])
        self.set_header("Cache-Control", "max-age=2592000")
        self.finish(data)

    head = get
