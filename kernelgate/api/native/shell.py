"""`/v1/sessions/S/env` and `/v1/sessions/S/shells`: what commands begin with, and commands that go on where the last one stopped."""

from __future__ import annotations

from typing import Any

import msgspec

from kernelgate.api.base import BaseHandler
from kernelgate.api.native import command, model, operation
from kernelgate.api.native.execution import StreamingHandler


class EnvHandler(BaseHandler):
    """`/v1/sessions/S/env`"""

    async def get(self, session_id: str) -> None:
        """The session's own variables, with `?name=` (any number of them) only those."""
        with self.session(session_id) as session:
            found = operation.checked(await operation.ask(self.services, session, "env"), model.Environment)
        names = self.get_query_arguments("name")
        self.send({"env": {name: value for name, value in found.env.items() if not names or name in names}})

    async def put(self, session_id: str) -> None:
        """Sets what is given, leaves the rest. All of it."""
        body = self.body(model.SetEnv)
        await self._change(session_id, set=model.checked_env(body.env), unset=[], clear=False)

    async def delete(self, session_id: str) -> None:
        """Unsets each `?name=`; without any, all. What is left."""
        names = self.get_query_arguments("name")
        await self._change(session_id, set={}, unset=names, clear=not names)

    async def _change(self, session_id: str, **fields: Any) -> None:
        with self.session(session_id) as session:
            found = await operation.ask(self.services, session, "env_change", max_bytes=model.MAX_ENV_BYTES, **fields)
        self.send(msgspec.to_builtins(operation.checked(found, model.Environment)))


class ShellsHandler(BaseHandler):
    """`/v1/sessions/S/shells`"""

    async def post(self, session_id: str) -> None:
        """Makes a shell. 201."""
        body = self.body(model.CreateShell)
        with self.session(session_id) as session:
            # Not twice: it would be two.
            header, _ = await session.link.request("shell_create", shell=body.shell, cwd=body.cwd, env=model.checked_env(body.env))
        self.send(msgspec.to_builtins(operation.checked(header["ok"], model.Shell)), 201)

    async def get(self, session_id: str) -> None:
        with self.session(session_id) as session:
            found = await operation.ask(self.services, session, "shells")
        self.send(msgspec.to_builtins(operation.checked(found, model.Shells)))


class ShellHandler(BaseHandler):
    """`/v1/sessions/S/shells/H`"""

    async def get(self, session_id: str, shell_id: str) -> None:
        with self.session(session_id) as session:
            found = await operation.ask(self.services, session, "shell", shell_id=shell_id)
        self.send(msgspec.to_builtins(operation.checked(found, model.Shell)))

    async def delete(self, session_id: str, shell_id: str) -> None:
        """Ends it and what runs in it. 204."""
        with self.session(session_id) as session:
            await operation.ask(self.services, session, "shell_delete", shell_id=shell_id)
        self.set_status(204)
        self.finish()


class ShellRunHandler(StreamingHandler):
    """`/v1/sessions/S/shells/H/run`"""

    async def post(self, session_id: str, shell_id: str) -> None:
        """Runs a command in it; answers as `commands` does, under whose paths it is found."""
        body = self.body(model.RunInShell)
        session = self.session(session_id)
        wanted = {name: getattr(body, name) for name in body.__struct_fields__}
        fields = {**command.fields_of(self.services, session, model.CreateCommand(**wanted), self.request_id), "shell_id": shell_id}
        self.set_header("Location", f"/v1/sessions/{session_id}/commands/{fields['command_id']}")
        await command.answer(self, session, "shell_run", fields, background=False, on_disconnect=body.on_disconnect)
