"""The service itself: health, readiness, metrics, languages, and the description of the API."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import kernelgate
from kernelgate import languages
from kernelgate.api.base import BaseHandler

_STARTED = time.time()


class HealthHandler(BaseHandler):
    """`/health`: that it lives, and under which isolation. Anybody may ask."""

    authenticated = False

    async def get(self) -> None:
        node = self.services.keeper.node
        self.send({
            "status": "ok", "version": kernelgate.__version__, "pid": os.getpid(), "uptime_s": round(time.time() - _STARTED, 3),
            "sandbox": {"kind": self.services.settings.sandbox.kind, "isolated": node.isolated, "cgroup_version": node.facts.get("cgroup", 0), "limits_by": node.mechanism, "network": node.network},
            "warnings": node.warnings(),
        })  # fmt: skip


class ReadyHandler(BaseHandler):
    """`/ready`: 200 when a session can be made at once, 503 until then and while draining. Anybody may ask."""

    authenticated = False

    async def get(self) -> None:
        keeper, settings = self.services.keeper, self.services.settings
        ready = bool(keeper.ready) or settings.sessions.pool_size == 0
        self.send({"ready": ready, "pool": keeper.ready}, 200 if ready else 503)


class MetricsHandler(BaseHandler):
    """`/metrics`, in Prometheus' text format."""

    async def get(self) -> None:
        keeper, metrics = self.services.keeper, self.services.metrics
        metrics.sessions.labels("running").set(len(keeper.live()))
        metrics.sessions.labels("ready").set(keeper.ready)
        for name, value in keeper.counts.items():
            getattr(metrics, name).set(value)
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(metrics.render())


class LanguagesHandler(BaseHandler):
    """`/v1/languages`: what is supported, what is ready, and how to get the rest."""

    async def get(self) -> None:
        prefix = self.services.keeper.node.python["prefix"]
        self.send({"languages": await asyncio.to_thread(_languages, prefix)})


def _languages(prefix: str) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name, "display_name": one.display_name, "aliases": list(one.aliases), "state": one.state, "version": one.version if one.ready else None,
            "missing": list(one.missing), "install": one.install_command,
        }
        for one in languages.load(prefix).values()
    ]  # fmt: skip


class OpenapiHandler(BaseHandler):
    """`/v1/openapi.json`"""

    async def get(self) -> None:
        from kernelgate.api.openapi import document  # noqa: PLC0415 - made once, on demand

        self.send(document())
