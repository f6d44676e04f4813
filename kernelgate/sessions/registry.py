"""The registry: sessions and tokens in SQLite (WAL). What must survive the gateway, and nothing else: what a session does is in its own journal.

Each row is written once more as a small file, of a session into its directory (`sessions/ID/session.json`), of tokens into `tokens.json`. `open_registry` reads these, and
adds what a registry that was destroyed, or has lost its last part, does not know.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kernelgate.errors import NoSpace, StorageUnavailable

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (id TEXT PRIMARY KEY, name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, created_at REAL NOT NULL, revoked_at REAL,
  ceilings TEXT NOT NULL DEFAULT '{}', network INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS sessions (
  id TEXT PRIMARY KEY, token_id TEXT, state TEXT NOT NULL, reason TEXT, slot INTEGER NOT NULL, pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL,
  created_at REAL NOT NULL, last_activity_at REAL NOT NULL, ended_at REAL, idle_timeout_s REAL, lifetime_s REAL, labels TEXT NOT NULL, isolated INTEGER NOT NULL,
  limits TEXT NOT NULL DEFAULT '{}', network INTEGER NOT NULL DEFAULT 0
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
    """`ceilings`: the most that its sessions may have, by the names of their limits; what is not named is the server's alone to limit. `network`: whether they may have one."""

    id: str
    name: str
    created_at: float
    ceilings: dict[str, float] = field(default_factory=dict)
    network: bool = False


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
    limits: dict[str, Any] = field(default_factory=dict)
    network: bool = False


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
    "limits",
    "network",
)


_FIELDS = "id, name, created_at, ceilings, network"
_INSERT = "INSERT OR IGNORE INTO tokens (id, name, hash, created_at, ceilings, network) VALUES (?, ?, ?, ?, ?, ?)"
#: Columns that tables of earlier versions lack.
_ADDED = (
    ("sessions", "limits", "TEXT NOT NULL DEFAULT '{}'"),
    ("sessions", "network", "INTEGER NOT NULL DEFAULT 0"),
    ("tokens", "ceilings", "TEXT NOT NULL DEFAULT '{}'"),
    ("tokens", "network", "INTEGER NOT NULL DEFAULT 0"),
)

#: Through which states a session goes.
_PROGRESS = ("ready", "starting", "running", "closed", "lost")


class RegistryCorrupt(StorageUnavailable):
    """The file is no database any more."""


class Registry:
    """Opens the file, and makes it where there is none. Every method raises NoSpace or StorageUnavailable where the file cannot be used; opening it, RegistryCorrupt too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        except sqlite3.Error as exc:
            raise self._failure(exc) from exc
        try:
            self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        try:
            self._path.chmod(0o600)
        except OSError as exc:
            raise StorageUnavailable(f"{self._path} cannot be used: {exc.strerror}") from exc
        self._execute("PRAGMA journal_mode=WAL")
        # A power failure may take the last moments; the death of the process may not.
        self._execute("PRAGMA synchronous=NORMAL")
        for statement in _SCHEMA.split(";"):
            self._execute(statement)
        for table, column, kind in _ADDED:
            if column not in {found[1] for found in self._execute(f"PRAGMA table_info({table})")}:
                self._execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        ((found,), *_) = self._execute("PRAGMA quick_check(1)").fetchall()
        if found != "ok":
            raise RegistryCorrupt(f"{self._path} is damaged: {found}")

    def _execute(self, statement: str, arguments: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, arguments)
        except sqlite3.Error as exc:
            raise self._failure(exc) from exc

    def _failure(self, error: sqlite3.Error) -> StorageUnavailable | NoSpace:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return RegistryCorrupt(f"{self._path} is damaged: {error}")
        if code == sqlite3.SQLITE_FULL:
            return NoSpace("there is no room left for this server's data; sessions live on")
        return StorageUnavailable(f"{self._path} cannot be used: {error}")

    def close(self) -> None:
        self._db.close()

    @property
    def db(self) -> sqlite3.Connection:
        """For what else is kept in this file (sessions/frontend.py)."""
        return self._db

    # -- tokens --

    def create_token(self, name: str, ceilings: Mapping[str, float] | None = None, *, network: bool = False) -> tuple[Token, str]:
        """A new token and its secret, which is shown once and not kept. Secrets look like `kg_` and 40 lower-case hexadecimal digits."""
        secret = "kg_" + secrets.token_hex(20)
        token = Token("t" + secrets.token_hex(6), name, time.time(), dict(ceilings or {}), network)
        self._execute(_INSERT, (token.id, name, _hash(secret), token.created_at, json.dumps(token.ceilings), int(network)))
        self._record_tokens()
        return token, secret

    def _record_tokens(self) -> None:
        rows = self._execute("SELECT id, name, hash, created_at, revoked_at, ceilings, network FROM tokens").fetchall()
        _record(
            self._path.with_name("tokens.json"), [[*row[:2], row[2].hex(), *row[3:5], json.loads(row[5]), bool(row[6])] for row in rows]
        )

    def tokens(self) -> list[Token]:
        return [_token(row) for row in self._execute(f"SELECT {_FIELDS} FROM tokens WHERE revoked_at IS NULL ORDER BY created_at")]  # noqa: S608 - fixed names

    def token_of(self, token_id: str) -> Token | None:
        """The token with this id, also one that was revoked."""
        row = self._execute(f"SELECT {_FIELDS} FROM tokens WHERE id = ?", (token_id,)).fetchone()  # noqa: S608 - fixed names
        return _token(row) if row else None

    def revoke_token(self, token_id: str) -> bool:
        """Whether there was one. Its sessions stay, but nobody can reach them."""
        statement = "UPDATE tokens SET revoked_at = ? WHERE (id = ? OR name = ?) AND revoked_at IS NULL"
        revoked = self._execute(statement, (time.time(), token_id, token_id)).rowcount > 0
        if revoked:
            self._record_tokens()
        return revoked

    def token(self, secret: str) -> Token | None:
        """The token with this secret. Compared in constant time: what a caller can vary is only a hash's preimage, and the match is checked with compare_digest."""
        wanted = _hash(secret)
        row = self._execute(f"SELECT {_FIELDS}, hash FROM tokens WHERE hash = ? AND revoked_at IS NULL", (wanted,)).fetchone()  # noqa: S608 - fixed names
        if row is None or not hmac.compare_digest(row[-1], wanted):
            return None
        return _token(row[:-1])

    # -- sessions --

    def save(self, row: Row) -> None:
        values = {
            **row.__dict__,
            "labels": json.dumps(row.labels),
            "limits": json.dumps(row.limits),
            "isolated": int(row.isolated),
            "network": int(row.network),
        }
        marks = ", ".join("?" * len(_COLUMNS))
        self._execute(f"INSERT OR REPLACE INTO sessions ({', '.join(_COLUMNS)}) VALUES ({marks})", [values[name] for name in _COLUMNS])  # noqa: S608 - fixed names
        if row.state == "starting":
            self._unrecord(row.id)  # on its way from the pool to a caller: never to be found again as one of the pool
        else:
            _record(self._record_of(row.id), row.__dict__)

    def lose(self, session_id: str, reason: str, at: float) -> None:
        """Marks a session lost if it is still somebody's: another gateway may have ended it meanwhile, in order."""
        statement = "UPDATE sessions SET state = 'lost', reason = ?, ended_at = ? WHERE id = ? AND state = 'running'"
        if self._execute(statement, (reason, at, session_id)).rowcount and (row := self.get(session_id)):
            _record(self._record_of(session_id), row.__dict__)

    def delete(self, session_id: str) -> None:
        self._execute("DELETE FROM sessions WHERE id = ?", (session_id,))
        self._unrecord(session_id)

    def _unrecord(self, session_id: str) -> None:
        try:
            self._record_of(session_id).unlink(missing_ok=True)
        except OSError as exc:
            raise StorageUnavailable(f"{self._path.parent} cannot be written: {exc.strerror}") from exc

    def _record_of(self, session_id: str) -> Path:
        return self._path.parent / "sessions" / session_id / "session.json"

    def ids(self) -> set[str]:
        """Of all sessions there are."""
        return {session_id for (session_id,) in self._execute("SELECT id FROM sessions")}

    def restore(self) -> int:
        """Adds what the records know and this file does not: because it is new, or because its last part was lost. What cannot be read is left out, and said. How many sessions were added."""
        try:
            tokens = json.loads(self._path.with_name("tokens.json").read_text())
        except FileNotFoundError:
            tokens = []
        for token_id, name, digest, created_at, revoked_at, *rest in tokens:
            ceilings, network = rest or ({}, False)  # a record of before there were any
            self._execute(_INSERT, (token_id, name, bytes.fromhex(digest), created_at, json.dumps(ceilings), int(network)))
            if revoked_at is not None:
                self._execute("UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (revoked_at, token_id))
        count = 0
        for path in self._path.parent.glob("sessions/*/session.json"):
            try:
                row = Row(**json.loads(path.read_text()))
            except (ValueError, TypeError) as exc:
                log.error("%s cannot be read, and its session is not restored: %s", path, exc)
                continue
            known = self.get(row.id)
            if known is None or _PROGRESS.index(known.state) < _PROGRESS.index(row.state):
                # When it was last used is in the registry alone: its clock of idleness starts again.
                self.save(replace(row, last_activity_at=time.time()))
                count += 1
        return count

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
        self._execute("UPDATE sessions SET last_activity_at = max(last_activity_at, ?) WHERE id = ?", (at, session_id))

    def free_slot(self) -> int:
        """The smallest user slot that no live session has."""
        taken = {slot for (slot,) in self._execute("SELECT slot FROM sessions WHERE state IN ('ready', 'running', 'starting')")}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)

    def _select(self, where: str, arguments: Any) -> list[Row]:
        rows = self._execute(f"SELECT {', '.join(_COLUMNS)} FROM sessions {where}", arguments)  # noqa: S608 - fixed names
        return [_row(dict(zip(_COLUMNS, values, strict=True))) for values in rows]


def _token(values: Sequence[Any]) -> Token:
    token_id, name, created_at, ceilings, network = values
    return Token(token_id, name, created_at, json.loads(ceilings), bool(network))


def _row(values: dict[str, Any]) -> Row:
    read = {name: json.loads(values[name]) for name in ("labels", "limits")}
    return Row(**{**values, **read, "isolated": bool(values["isolated"]), "network": bool(values["network"])})


def open_registry(path: Path) -> Registry:
    """The registry, with all that its records know. One that is destroyed is put aside, and made again. Raises NoSpace, StorageUnavailable."""
    try:
        registry = Registry(path)
    except RegistryCorrupt as exc:
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        log.error("%s; it is kept as %s, and a new one is made", exc.detail, aside.name)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.rename(aside)
        registry = Registry(path)
    if count := registry.restore():
        log.warning("%d sessions were restored from the records beside them", count)
    return registry


def _record(path: Path, value: Any) -> None:
    """There whole or not at all. A failure is said and does no harm as long as the registry itself is whole. A session without a directory has nothing to be found again by."""
    temporary = path.with_name(path.name + ".new")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(value, file)
        temporary.rename(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        log.warning("%s cannot be written: %s", path, exc.strerror)


def _hash(secret: str) -> bytes:
    # Secrets are 160 random bits, so one round of a fast hash cannot be searched.
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


__all__ = ["Registry", "RegistryCorrupt", "Row", "Token", "open_registry", "replace"]
