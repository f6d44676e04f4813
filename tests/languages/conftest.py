"""One session with a kernel of each language in it, for all of the suite: what starts once costs once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.languages.cases import AWKWARD, PRELUDE, Cell
from tests.support.server import Api, Server
from tests.support.stream import stream, until


class Room:
    """A session, and in it per language a default context, another one with directory and environment of its own, and one that may die.

    `hand` is a Python context of the test's own: it makes files that cells wait for, and looks at what they left.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self.session = api.create()
        self._ready: set[str] = set()
        self._others: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._hand = self._make("hand", "python")

    def _make(self, name: str, language: str, **body: Any) -> str:
        made: str = self.api.call("POST", f"/v1/sessions/{self.session}/contexts", 201, json={"language": language, "name": name, **body})[
            "id"
        ]
        return made

    def hand(self, code: str) -> str:
        result = self.api.run(self.session, code, context=self._hand)
        assert result["status"] == "ok", result["error"]
        return "".join(result["logs"]["stdout"])

    def touch(self, path: str) -> None:
        self.hand(f"open({path!r}, 'w').close()")

    def file(self) -> str:
        """A path in /workspace that nothing has yet, and that stays the same whatever directory a cell is in."""
        return f"/workspace/file-{next(self._numbers)}"

    def _prepared(self, context: str, language: str) -> str:
        if context not in self._ready:
            result = self.api.run(self.session, PRELUDE[language], context=context)
            assert result["status"] == "ok", result["error"]
            self._ready.add(context)
        return context

    def context(self, language: str) -> str:
        """The default context of a language, which knows the prelude."""
        if language not in self._ready:
            self.api.run(self.session, "", language=language)
        return self._prepared(language, language)

    def other(self, language: str) -> str:
        """A context of that language in a directory and with an environment of its own."""
        if language not in self._others:
            self.hand("import os; os.makedirs('/workspace/sub dir', exist_ok=True)")
            self._others[language] = self._make(f"{language}, beside", language, cwd="/workspace/sub dir", env={"KG_OWN": AWKWARD})
        return self._prepared(self._others[language], language)

    def forget(self, context: str) -> None:
        """Its kernel has ended: the next one has to be told the prelude again."""
        self._ready.discard(context)

    def run(self, context: str, cell: Cell | str, **body: Any) -> dict[str, Any]:
        code, env = (cell.code, cell.env) if isinstance(cell, Cell) else (cell, None)
        return self.api.run(self.session, code, context=context, **({"env": env} if env else {}), **body)

    def death(self, context: str, after: int) -> dict[str, Any]:
        """How the kernel of a context ended, as the session's events tell."""
        with stream(self.api, "GET", f"/v1/sessions/{self.session}/events?after={after}") as events:
            death: dict[str, Any] = until(events, "kernel", event="died", context_id=context)[-1]["death"]
            return death

    def busy(self) -> float:
        """What part of one processor the kernels of this session use, over a third of a second: all but the one that measures."""
        return float(self.hand(_BUSY))

    def close(self) -> None:
        self.api.delete(self.session)


_BUSY = """
import glob, os, time
def ticks():
    found = {}
    for path in glob.glob('/proc/[0-9]*'):
        try:
            if os.stat(path).st_uid == os.getuid() and path != f'/proc/{os.getpid()}':
                fields = open(path + '/stat').read().rpartition(')')[2].split()
                found[path] = int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return found
before, begun = ticks(), time.monotonic()
time.sleep(0.33)
used = sum(n - before.get(path, n) for path, n in ticks().items()) / os.sysconf('SC_CLK_TCK')
print(used / (time.monotonic() - begun))
"""


@pytest.fixture(scope="session")
def room(server: Server) -> Iterator[Room]:
    with server.api() as api:
        made = Room(api)
        yield made
        made.close()
