"""`/v1/sessions/S/contexts`: kernels with a name."""

from __future__ import annotations

from typing import Any

import msgspec

from kernelgate.api.base import BaseHandler
from kernelgate.api.native import model, operation
from kernelgate.errors import InvalidRequest, KernelUnresponsive


class ContextsHandler(BaseHandler):
    """`/v1/sessions/S/contexts`"""

    async def get(self, session_id: str) -> None:
        """The contexts, oldest first."""
        session = self.session(session_id)
        answer = await operation.ask(self.services, session, "contexts")
        self.send(msgspec.to_builtins(operation.checked(answer, model.Contexts)))

    async def post(self, session_id: str) -> None:
        """Makes a context and starts its kernel; what is sent to it meanwhile waits."""
        body = self.body(model.CreateContext)
        language = operation.language(self.services, body.language)
        if body.cwd is not None and "\0" in body.cwd:
            raise InvalidRequest("cwd: must not have NUL characters")
        with self.session(session_id) as session:
            spec = self.services.keeper.spec(session, language)
            answer = await operation.ask(
                self.services, session, "context_create", spec=spec, name=body.name, cwd=body.cwd, env=model.checked_env(body.env)
            )
        made = operation.checked(answer, model.Context)
        self.set_header("Location", f"/v1/sessions/{session_id}/contexts/{made.id}")
        self.send(msgspec.to_builtins(made), 201)


class ContextHandler(BaseHandler):
    """`/v1/sessions/S/contexts/C`"""

    async def get(self, session_id: str, context: str) -> None:
        session = self.session(session_id)
        answer = await operation.ask(self.services, session, "context", context=context)
        self.send(msgspec.to_builtins(operation.checked(answer, model.Context)))

    async def delete(self, session_id: str, context: str) -> None:
        """Ends its kernel; what waited in it is cancelled. 204."""
        with self.session(session_id) as session:
            await operation.ask(self.services, session, "context_delete", context=context)
        self.set_status(204)
        self.finish()


class RestartHandler(BaseHandler):
    """`/v1/sessions/S/contexts/C/restart`"""

    async def post(self, session_id: str, context: str) -> None:
        """A fresh kernel, answered when it is ready. 502 where it cannot start."""
        self.body(model.Empty)
        with self.session(session_id) as session:
            answer = await operation.ask(
                self.services, session, "context_restart", **operation.target(self.services, session, None, context)
            )
        self.send(msgspec.to_builtins(operation.checked(answer, model.Context)))


#: Questions to a kernel: the body's model, the message type, the answer's model.
QUESTIONS: dict[str, tuple[type[msgspec.Struct], str, type[Any]]] = {
    "complete": (model.Complete, "complete_request", model.Completion),
    "inspect": (model.Inspect, "inspect_request", model.Inspection),
    "is_complete": (model.IsComplete, "is_complete_request", model.Completeness),
}


async def question(handler_services: Any, session: Any, kind: str, context: str, body: Any) -> dict[str, Any]:
    """Puts a question to the kernel of a context. Raises KernelUnresponsive, also where the kernel answers with an error."""
    _, msg_type, answer_model = QUESTIONS[kind]
    content = msgspec.to_builtins(body)
    if content.get("cursor_pos", 0) is None:
        content["cursor_pos"] = len(body.code)
    if content.get("cursor_pos", 0) > len(body.code):
        raise InvalidRequest(f"cursor_pos: the code has {len(body.code)} characters")
    reply = await operation.ask(
        handler_services, session, "ask", msg_type=msg_type, content=content, **operation.target(handler_services, session, None, context)
    )
    if reply.get("status") == "error":
        raise KernelUnresponsive(f"the kernel could not answer: {reply.get('ename')}: {reply.get('evalue')}")
    names = {field.name for field in msgspec.structs.fields(answer_model)}
    answer: dict[str, Any] = msgspec.to_builtins(
        operation.checked({name: value for name, value in reply.items() if name in names}, answer_model)
    )
    return answer


class QuestionHandler(BaseHandler):
    """`/v1/sessions/S/contexts/C/complete`, `inspect`, `is_complete`"""

    async def post(self, session_id: str, context: str, kind: str) -> None:
        body = self.body(QUESTIONS[kind][0])
        with self.session(session_id) as session:
            self.send(await question(self.services, session, kind, context, body))
