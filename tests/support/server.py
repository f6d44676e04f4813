"""A real gateway for tests: started as a user starts it, killed as an operator fears it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import httpx

from kernelgate.settings import Settings

#: For a server whose kernels have the libraries that they have by default.
AS_SHIPPED = f"python.preload={','.join(Settings().python.preload)}"


class Server:
    """`kernelgate serve` on a free port with a data directory of its own. `settings` are `section.key=value` strings.

    Unless these say otherwise nothing is preloaded, which starts it a second and a half sooner; see `AS_SHIPPED`.
    """

    def __init__(self, data_dir: Path, *settings: str, embedded: bool = True) -> None:
        self.data_dir = data_dir
        self._embedded = embedded
        self._settings = settings if any(one.startswith("python.preload=") for one in settings) else ("python.preload=", *settings)
        self._port = 0
        #: What is run; a test may put something else before `serve`.
        self.program = [sys.executable, "-m", "kernelgate"]
        self.process: subprocess.Popen[str] | None = None
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.url = self.token = ""

    def start(self) -> Server:
        """Starts it, on the same port as before if there was one, and waits until it says that it is ready."""
        return self.spawn().wait_until_ready()

    def spawn(self, *wrapper: str) -> Server:
        """Starts the process, without waiting; `wrapper` is put before its command line."""
        flags = [flag for setting in self._settings for flag in ("--set", setting)]
        with self.log.open("a") as errors:
            self.process = subprocess.Popen(
                [
                    *wrapper,
                    *self.program,
                    "serve",
                    "--data-dir",
                    str(self.data_dir),
                    "--port",
                    str(self._port),
                    *(["--exit-with-parent", str(os.getpid())] if self._embedded else []),
                    *flags,
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        return self

    def wait_until_ready(self) -> Server:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "is ready at" in line:
                break
        else:
            raise AssertionError(f"the server did not start: {self.log.read_text()[-2000:]}")
        facts = json.loads((self.data_dir / "server.json").read_text())
        self.url, self.token = facts["url"], facts["token"]
        self._port = int(self.url.rpartition(":")[2])
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def embedded(self, value: bool) -> Server:
        """Whether the next start makes a server whose sessions end with it."""
        self._embedded = value
        return self

    def kill(self) -> None:
        """kill -9 of the gateway: sessions live on."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def stop(self, timeout_s: float = 60) -> int:
        """SIGTERM; its sessions end with it when it was started as an embedded one. The exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._reap(timeout_s)

    def _reap(self, timeout_s: float = 60) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        status = self.process.wait(timeout_s)
        self.process.stdout.close()
        return status

    def api(self, token: str | None = None, **options: Any) -> Api:
        return Api(self.url, token or self.token, **options)

    def zygote_pid(self) -> int | None:
        """The process that holds the lock of the data directory."""
        lock = (self.data_dir / "zygote.lock").stat()
        file = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5] == file:
                return int(fields[4])
        return None

    def new_token(self, name: str, *options: str) -> str:
        done = self.command("token", "create", name, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the server's own, on its data directory."""
        command = [sys.executable, "-m", "kernelgate", *arguments, "--data-dir", str(self.data_dir)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def leftovers(self) -> list[str]:
        """Processes of its sessions' users, its cgroups, its mounts, its sockets: what must be gone when it has stopped."""
        first = 200_000 + zlib.crc32(str(self.data_dir).encode()) % 50_000 * 20_000
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    uid = entry.stat().st_uid
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if first <= uid < first + 20_000 or str(self.data_dir) in command:
                    found.append(f"process {entry.name} of {uid}: {command[:100]}")
        found += [str(path) for path in self.cgroups()]
        found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.data_dir) in line]
        found += [str(path) for path in self.data_dir.rglob("*.sock")]
        return found

    def cgroups(self) -> list[Path]:
        """Those in which its sessions' groups are."""
        name = "kernelgate-" + hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:8]
        return [*Path("/sys/fs/cgroup").glob(f"*/{name}"), *Path("/sys/fs/cgroup").glob(name)]

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


class Api:
    """The native API over a plain HTTP client, for tests that want to see what is on the wire."""

    def __init__(self, url: str, token: str, **options: Any) -> None:
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60, **options)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def call(self, method: str, path: str, status: int | None = None, **options: Any) -> Any:
        """The answer's JSON; fails when the status is not the expected one (any 2xx by default)."""
        response = self.http.request(method, path, **options)
        if status is None:
            assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        else:
            assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def create(self, **body: Any) -> str:
        made: str = self.call("POST", "/v1/sessions", json=body)["id"]
        return made

    def delete(self, session: str) -> None:
        self.call("DELETE", f"/v1/sessions/{session}", 204)

    def run(self, session: str, code: str, **body: Any) -> dict[str, Any]:
        """Runs code and waits: the result."""
        result: dict[str, Any] = self.call("POST", f"/v1/sessions/{session}/executions", json={"code": code, **body})
        return result

    def start(self, session: str, code: str, **body: Any) -> str:
        """Starts code without waiting: the execution's id."""
        made: str = self.call("POST", f"/v1/sessions/{session}/executions?wait=false", 202, json={"code": code, **body})["id"]
        return made

    def wait(self, session: str, execution: str) -> dict[str, Any]:
        result: dict[str, Any] = self.call("GET", f"/v1/sessions/{session}/executions/{execution}?wait=true")
        return result

    def events(self, session: str, execution: str, after: int = 0) -> list[dict[str, Any]]:
        """All events of an execution up to its end."""
        response = self.http.get(f"/v1/sessions/{session}/executions/{execution}?after={after}", headers={"Accept": "application/x-ndjson"})
        assert response.status_code == 200, response.text
        return [event for line in response.text.splitlines() if (event := json.loads(line))["type"] != "keepalive"]

    def until(self, what: Any, *, within_s: float = 30, every_s: float = 0.02) -> Any:
        """Asks until the answer is true. For states that nothing announces."""
        deadline = time.monotonic() + within_s
        while not (answer := what()):
            assert time.monotonic() < deadline, "it did not come to be"
            time.sleep(every_s)
        return answer


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
