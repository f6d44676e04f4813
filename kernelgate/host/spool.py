"""What was accepted but is not done: kept outside the process, so that a new host runs what its predecessor did not, and runs nothing twice.

One small file per execution in a directory that only the host can read (it holds environments, which the journal must not). It lies in the sandbox's memory and goes with it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from kernelgate.protocol import jsontext


class Spool:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)
        self._number = 0
        # Names as text and calls of the system as they are: Path costs three times what the files do, and each execution comes by here.
        self._names: dict[str, str] = {}

    def put(self, execution_id: str, request: dict[str, Any]) -> None:
        """Before an accepted execution is answered for."""
        self._number += 1
        name = f"{self._directory}/{self._number:09d}"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            data = memoryview(jsontext.dump(request))
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        self._names[execution_id] = name

    def mark_sent(self, execution_id: str) -> None:
        """Before it is sent to a kernel: from here on it must not be sent again."""
        name = self._names[execution_id]
        self._names[execution_id] = sent = name + ".sent"
        os.rename(name, sent)

    def remove(self, execution_id: str) -> None:
        name = self._names.pop(execution_id, None)
        if name is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)

    def put_state(self, state: dict[str, Any]) -> None:
        """What else a new host must know and the journal must not: the session's environment, its shells."""
        path = self._directory / "state.new"
        path.write_bytes(jsontext.dump(state))
        path.rename(path.with_suffix(".json"))

    def state(self) -> dict[str, Any]:
        """What was put last; empty where nothing was."""
        try:
            found: dict[str, Any] = jsontext.load((self._directory / "state.json").read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def recover(self) -> list[tuple[dict[str, Any], bool]]:
        """What a predecessor left, oldest first: (request, whether it had been sent). A half-written request was never answered for and is dropped."""
        found = []
        for path in sorted(path for path in self._directory.iterdir() if path.stem.isdigit()):
            try:
                request = jsontext.load(path.read_bytes())
            except ValueError:
                path.unlink()
                continue
            self._names[request["execution_id"]] = str(path)
            self._number = max(self._number, int(path.stem))
            found.append((request, path.suffix == ".sent"))
        return found
