"""The registry: sessions and tokens in SQLite (WAL). What must survive the gateway, and nothing else: what a session does is in its own journal."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (id TEXT PRIMARY KEY, name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, created_at REAL NOT NULL, revoked_at REAL);
CREATE TABLE IF NOT EXISTS sessions (
  id TEXT PRIMARY KEY, token_id TEXT, state TEXT NOT NULL, reason TEXT, slot INTEGER NOT NULL, pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL,
  created_at REAL NOT NULL, last_activity_at REAL NOT NULL, ended_at REAL, idle_timeout_s REAL, lifetime_s REAL, labels TEXT NOT NULL, isolated INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_by_owner ON sessions (token_id, created_at);
CREATE INDEX IF NOT EXISTS sessions_by_state ON sessions (state);
CREATE TABLE IF NOT EXISTS frontend_kernels (id TEXT, token_id TEXT, session_id TEXT NOT NULL, context TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (token_id, id));
CREATE TABLE IF NOT EXISTS frontend_documents (
  id TEXT PRIMARY KEY, token_id TEXT NOT NULL, kernel_id TEXT NOT NULL, path TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, created_at REAL NOT NULL
);
"""


@dataclass(frozen=True)
class Token:
    id: str
    name: str
    created_at: float


@dataclass(frozen=True)
class Row:
    """One session. `state`: ready (in the pool), running, closed (deleted or culled), lost."""

    id: str
    token_id: str | None
    state: str
    slot: int
    pid: int
    start_ticks: int
    created_at: float
    last_activity_at: float
    isolated: bool
    reason: str | None = None
    ended_at: float | None = None
    idle_timeout_s: float | None = None
    lifetime_s: float | None = None
    labels: dict[str, str] = field(default_factory=dict)


_COLUMNS = (
    "id",
    "token_id",
    "state",
    "reason",
    "slot",
    "pid",
    "start_ticks",
    "created_at",
    "last_activity_at",
    "ended_at",
    "idle_timeout_s",
    "lifetime_s",
    "labels",
    "isolated",
)


class Registry:
    """Opens the file, and makes it where there is none. Raises sqlite3.Error where it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        path.chmod(0o600)
        self._db.execute("PRAGMA journal_mode=WAL")
        # A power failure may take the last moments; the death of the process may not.
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    @property
    def db(self) -> sqlite3.Connection:
        """For what else is kept in this file (sessions/frontend.py)."""
        return self._db

    # -- tokens --

    def create_token(self, name: str) -> tuple[Token, str]:
        """A new token and its secret, which is shown once and not kept. Secrets look like `kg_` and 40 lower-case hexadecimal digits."""
        secret = "kg_" + secrets.token_hex(20)
        token = Token("t" + secrets.token_hex(6), name, time.time())
        self._db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, NULL)", (token.id, name, _hash(secret), token.created_at))
        return token, secret

    def tokens(self) -> list[Token]:
        return [
            Token(*row) for row in self._db.execute("SELECT id, name, created_at FROM tokens WHERE revoked_at IS NULL ORDER BY created_at")
        ]

    def revoke_token(self, token_id: str) -> bool:
        """Whether there was one. Its sessions stay, but nobody can reach them."""
        return (
            self._db.execute(
                "UPDATE tokens SET revoked_at = ? WHERE (id = ? OR name = ?) AND revoked_at IS NULL", (time.time(), token_id, token_id)
            ).rowcount
            > 0
        )

    def token(self, secret: str) -> Token | None:
        """The token with this secret. Compared in constant time: what a caller can vary is only a hash's preimage, and the match is checked with compare_digest."""
        wanted = _hash(secret)
        row = self._db.execute("SELECT id, name, created_at, hash FROM tokens WHERE hash = ? AND revoked_at IS NULL", (wanted,)).fetchone()
        if row is None or not hmac.compare_digest(row[3], wanted):
            return None
        return Token(*row[:3])

    # -- sessions --

    def save(self, row: Row) -> None:
        values = {**row.__dict__, "labels": json.dumps(row.labels), "isolated": int(row.isolated)}
        marks = ", ".join("?" * len(_COLUMNS))
        self._db.execute(f"INSERT OR REPLACE INTO sessions ({', '.join(_COLUMNS)}) VALUES ({marks})", [values[name] for name in _COLUMNS])  # noqa: S608 - fixed names

    def delete(self, session_id: str) -> None:
        self._db.execute("DELETE FROM sessions WHERE id = ?", (session_id,))

    def get(self, session_id: str) -> Row | None:
        found = self._select("WHERE id = ?", (session_id,))
        return found[0] if found else None

    def by_state(self, *states: str) -> list[Row]:
        marks = ", ".join("?" * len(states))
        return self._select(f"WHERE state IN ({marks}) ORDER BY created_at", states)

    def ended_before(self, at: float) -> list[Row]:
        return self._select("WHERE ended_at IS NOT NULL AND ended_at < ?", (at,))

    def page(self, token_id: str, *, labels: dict[str, str], state: str | None, after: tuple[float, str] | None, limit: int) -> list[Row]:
        """A token's sessions, oldest first, after (created_at, id)."""
        where, values = ["token_id = ?"], [token_id]
        arguments: list[Any] = list(values)
        if state is not None:
            where.append("state = ?")
            arguments.append(state)
        for name, value in labels.items():
            where.append("EXISTS (SELECT 1 FROM json_each(labels) WHERE json_each.key = ? AND json_each.value = ?)")
            arguments += [name, value]
        if after is not None:
            where.append("(created_at, id) > (?, ?)")
            arguments += list(after)
        return self._select(f"WHERE {' AND '.join(where)} ORDER BY created_at, id LIMIT ?", (*arguments, limit))

    def touch(self, session_id: str, at: float) -> None:
        self._db.execute("UPDATE sessions SET last_activity_at = ? WHERE id = ?", (at, session_id))

    def free_slot(self) -> int:
        """The smallest user slot that no live session has."""
        taken = {slot for (slot,) in self._db.execute("SELECT slot FROM sessions WHERE state IN ('ready', 'running', 'starting')")}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)

    def _select(self, where: str, arguments: Any) -> list[Row]:
        rows = self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM sessions {where}", arguments)  # noqa: S608 - fixed names
        return [_row(dict(zip(_COLUMNS, values, strict=True))) for values in rows]


def _row(values: dict[str, Any]) -> Row:
    return Row(**{**values, "labels": json.loads(values["labels"]), "isolated": bool(values["isolated"])})


def _hash(secret: str) -> bytes:
    # Secrets are 160 random bits, so one round of a fast hash cannot be searched.
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


__all__ = ["Registry", "Row", "Token", "replace"]
