"""`/v1/sessions`: create, list, get, update, keep alive, interrupt, delete."""

from __future__ import annotations

import base64
import json
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from kernelgate.api.base import BaseHandler
from kernelgate.api.native import model, operation
from kernelgate.errors import InvalidRequest

T = TypeVar("T")

_PAGE = 100
_MAX_PAGE = 1000


def page_limit(handler: BaseHandler) -> int:
    """`?limit=`. Raises InvalidRequest."""
    text = handler.get_query_argument("limit", str(_PAGE))
    if not (1 <= (number := natural(text)) <= _MAX_PAGE):
        raise InvalidRequest(f"limit: a number from 1 to {_MAX_PAGE} is expected, got {text[:100]!r}")
    return number


def natural(text: str) -> int:
    """A number in decimal digits; -1 where it is none, or too large for any use here."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1


def page_token(handler: BaseHandler, kind: type[T]) -> T | None:
    """What `?page_token=` holds. Raises InvalidRequest for one that this API did not give out."""
    text = handler.get_query_argument("page_token", None)
    if text is None:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text.encode()), type=kind)
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest("page_token: use the next_page_token of the page before", code="invalid_page_token") from exc


def next_token(value: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


class SessionsHandler(BaseHandler):
    """`/v1/sessions`"""

    async def post(self) -> None:
        """Makes a session. 201, 400, 429 (as many as there may be), 503 (the sandbox cannot be made)."""
        body, settings = self.body(model.CreateSession), self.services.settings.sessions
        made = await self.services.keeper.create(
            self.token.id,
            labels=body.labels,
            env=model.checked_env(body.env),
            idle_timeout_s=settings.idle_timeout_s if body.idle_timeout_s is UNSET else body.idle_timeout_s,
            lifetime_s=settings.lifetime_s if body.lifetime_s is UNSET else body.lifetime_s,
            limits={} if body.limits is UNSET else body.limits.asked_for(),
            has_network=body.network == "allow",
            warm=[operation.language(self.services, name) for name in body.languages],
            is_wanted=lambda: not self.client_gone,
        )
        self.set_header("Location", f"/v1/sessions/{made['id']}")
        self.send(made, 201)

    async def get(self) -> None:
        """The token's sessions, oldest first. `?label=name=value` (again and again), `?state=`, `?limit=`, `?page_token=`."""
        labels = {}
        for text in self.get_query_arguments("label"):
            name, equals, value = text.partition("=")
            if not equals:
                raise InvalidRequest(f"label: name=value is expected, got {text!r}")
            labels[name] = value
        state = self.get_query_argument("state", None)
        if state not in (None, "running", "closed", "lost"):
            raise InvalidRequest(f"state: running, closed or lost is expected, got {state!r}")
        limit, after = page_limit(self), page_token(self, tuple[float, str])
        keeper = self.services.keeper
        rows = keeper.registry.page(self.token.id, labels=labels, state=state, after=after, limit=limit + 1)
        more, rows = len(rows) > limit, rows[:limit]
        sessions = [await keeper.describe_any(row) for row in rows]
        self.send({"sessions": sessions, "next_page_token": next_token([rows[-1].created_at, rows[-1].id]) if more else None})


class SessionHandler(BaseHandler):
    """`/v1/sessions/S`"""

    async def get(self, session_id: str) -> None:
        """The session; one that has ended too, as long as it is kept."""
        keeper = self.services.keeper
        self.send(await keeper.describe_any(keeper.row(self.token.id, session_id)))

    async def patch(self, session_id: str) -> None:
        """Changes labels (all of them) and limits."""
        session, body = self.session(session_id), self.body(model.UpdateSession)
        changes = {name: value for name in ("labels", "idle_timeout_s", "lifetime_s") if (value := getattr(body, name)) is not UNSET}
        session.touch()
        self.services.keeper.update(session, **changes)
        self.send(await self.services.keeper.describe(session))

    async def delete(self, session_id: str) -> None:
        """Ends it and removes everything of it. 204."""
        keeper = self.services.keeper
        await keeper.remove(keeper.row(self.token.id, session_id))
        self.set_status(204)
        self.finish()


class MetricsHandler(BaseHandler):
    """`/v1/sessions/S/metrics`"""

    async def get(self, session_id: str) -> None:
        """What it uses now, and used over the last ten minutes. Who looks does not keep it alive."""
        found = await operation.ask(self.services, self.session(session_id), "metrics")
        self.send(msgspec.to_builtins(operation.checked(found, model.Metrics)))


class KeepaliveHandler(BaseHandler):
    """`/v1/sessions/S/keepalive`"""

    async def post(self, session_id: str) -> None:
        """Starts the idle clock again."""
        session = self.session(session_id)
        self.body(model.Empty)
        session.touch()
        self.send(await self.services.keeper.describe(session))


class InterruptHandler(BaseHandler):
    """`/v1/sessions/S/interrupt` and `/v1/sessions/S/contexts/C/interrupt`"""

    async def post(self, session_id: str, context: str | None = None) -> None:
        """Interrupts what runs, in one context or in all."""
        self.body(model.Empty)
        with self.session(session_id) as session:
            self.send(await operation.ask(self.services, session, "interrupt", context=context))
