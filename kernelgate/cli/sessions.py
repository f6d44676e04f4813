"""`kernelgate sessions`: list, create, show, delete."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kernelgate.cli import _server
from kernelgate.cli._terminal import duration

if TYPE_CHECKING:
    import argparse

    from kernelgate.sdk import Client, Session


def main(options: argparse.Namespace) -> int:
    """Does one of the four."""
    with _server.client(options) as client:
        actions = {"list": _list, "create": _create, "show": _show, "delete": _delete}
        actions[options.action or "list"](client, options)
    return 0


def _list(client: Client, options: argparse.Namespace) -> None:
    sessions = client.sessions.list(labels=dict(options.label), state=options.state)
    if options.json:
        _print_json([session.info.raw for session in sessions])
        return
    if not sessions:
        print("no sessions", file=sys.stderr)
        return
    from rich.console import Console  # noqa: PLC0415  (slow to load)
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("id", "state", "age", "ends in", "running", "kernels", "labels", box=None, header_style="bold")
    for session in sessions:
        info = session.info
        table.add_row(
            info.id,
            info.state if not info.reason else f"{info.state} ({info.reason})",
            _since(info.created_at),
            _until(info.expires_at) if info.state == "running" else "",
            str(info.executing),
            " ".join(context.id for context in info.contexts),
            # Labels are anybody's text, and may look like rich's own.
            escape(" ".join(f"{name}={value}" for name, value in info.labels.items())),
        )
    Console(width=None if sys.stdout.isatty() else 500).print(table)


def _create(client: Client, options: argparse.Namespace) -> None:
    given = {"idle_timeout_s": options.idle_timeout, "lifetime_s": options.lifetime}
    session = client.sessions.create(
        labels=dict(options.label),
        env=dict(options.env),
        languages=options.language,
        # The parser's default stands for "not given", as None is a choice here.
        **{name: value for name, value in given.items() if value is not ...},
    )
    print(session.id)


def _show(client: Client, options: argparse.Namespace) -> None:
    session = client.sessions.get(options.id)
    if options.json:
        _print_json(session.info.raw)
        return
    for name, value in _facts(session):
        print(f"{name:<14} {value}")


def _facts(session: Session) -> list[tuple[str, str]]:
    info = session.info
    facts = [
        ("id", info.id),
        ("state", info.state if not info.reason else f"{info.state} ({info.reason})"),
        ("created", f"{info.created_at:%Y-%m-%d %H:%M:%S} UTC, {_since(info.created_at)} ago" if info.created_at else ""),
        ("last activity", f"{_since(info.last_activity_at)} ago"),
        ("idle limit", "none" if info.idle_timeout_s is None else duration(info.idle_timeout_s)),
        ("lifetime", "none" if info.lifetime_s is None else duration(info.lifetime_s)),
        ("ends in", _until(info.expires_at) or "never, as it is"),
        ("directory", info.cwd),
        ("labels", " ".join(f"{name}={value}" for name, value in info.labels.items())),
        ("environment", " ".join(info.env_names)),
    ]
    facts += [
        ("context", f"{context.id}: {context.language}, {context.state}, {context.execution_count} executions, {context.queued} waiting")
        for context in info.contexts
    ]
    if info.state == "running":
        used = session.metrics()
        limit = "" if used.memory_limit_bytes is None else f" of {used.memory_limit_bytes / 1024**2:.0f}"
        facts += [
            ("uses", f"{used.now.cpu_percent:.0f} % CPU, {used.now.memory_mb:.0f}{limit} MiB of memory, {used.now.processes} processes"),
            (
                "workspace",
                "" if used.workspace_bytes is None else f"{used.workspace_bytes / 1024**2:.1f} MiB in {used.workspace_entries} entries",
            ),
        ]
    page = session.executions.list(limit=10)
    facts += [
        ("execution", f"{one.id}: {one.language} {one.status or one.state}, {duration(one.execution_time)}") for one in page.executions
    ]
    return facts


def _delete(client: Client, options: argparse.Namespace) -> None:
    for session_id in options.id:
        client.sessions.delete(session_id)
        print(f"deleted {session_id}", file=sys.stderr)


def _print_json(value: object) -> None:
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def _since(moment: datetime | None) -> str:
    return duration(max(0.0, (datetime.now(UTC) - moment).total_seconds())) if moment else ""


def _until(moment: datetime | None) -> str:
    return duration(max(0.0, (moment - datetime.now(UTC)).total_seconds())) if moment else ""
