"""What a user would pick instead, started and called as its own clients do: jupyter_client straight to a kernel, and jupyter_kernel_gateway over its WebSocket.

Kernel gateway is jupyter_server underneath: kernels, WebSocket and their costs are the same code.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

from benchmarks.measure import descendants

#: Kernels that take longer are not there.
PATIENCE_S = 120.0


class Floor:
    """A stock ipykernel and jupyter_client's AsyncKernelClient: no server, no isolation, no record."""

    title = "jupyter_client (AsyncKernelClient)"

    async def start(self) -> Floor:
        self._manager = AsyncKernelManager(kernel_name="python3")
        await self._manager.start_kernel()
        self._client = self._manager.client()
        self._client.start_channels()
        await self._client.wait_for_ready(timeout=PATIENCE_S)
        return self

    @property
    def pid(self) -> int:
        provisioner: Any = self._manager.provisioner
        number: int = provisioner.process.pid
        return number

    async def execute(self, code: str) -> None:
        reply = await self._client.execute_interactive(code, output_hook=lambda _: None, timeout=PATIENCE_S)
        assert reply["content"]["status"] == "ok", reply["content"]

    async def stop(self) -> None:
        self._client.stop_channels()
        await self._manager.shutdown_kernel(now=True)


class KernelGateway:
    """jupyter_kernel_gateway in an environment of its own. `specs`: name -> kernel.json of further kernels; `python3` is there."""

    title = "jupyter_kernel_gateway"

    def __init__(self, python: Path, directory: Path, port: int, specs: dict[str, dict[str, Any]]) -> None:
        for name, spec in specs.items():
            folder = directory / "kernels" / name
            folder.mkdir(parents=True)
            (folder / "kernel.json").write_text(json.dumps(spec))
        self.url = f"http://127.0.0.1:{port}"
        self._log = (directory / "kernel_gateway.log").open("w")
        self.process = subprocess.Popen(
            [
                # Its limits on output are off: with them it drops most of what these benchmarks print.
                *(str(python), "-m", "kernel_gateway", "--KernelGatewayApp.ip=127.0.0.1", f"--KernelGatewayApp.port={port}"),
                *("--KernelGatewayApp.port_retries=0", "--ZMQChannelsWebsocketConnection.limit_rate=False", "--KernelGatewayApp.log_level=ERROR"),
            ],
            env={**os.environ, "JUPYTER_PATH": str(directory), "PATH": f"{python.parent}:{os.environ['PATH']}"}, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        self._http = AsyncHTTPClient(force_instance=True, max_clients=200, defaults={"request_timeout": PATIENCE_S})

    async def ready(self) -> KernelGateway:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                await self._http.fetch(f"{self.url}/api")
            except OSError:
                assert self.process.poll() is None, f"it ended; see {self._log.name}"
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            else:
                return self

    async def create(self, name: str = "python3") -> Remote:
        answer = await self._http.fetch(f"{self.url}/api/kernels", method="POST", body=json.dumps({"name": name}))
        return await Remote(self, json.loads(answer.body)["id"]).connect()

    async def post(self, path: str) -> None:
        await self._http.fetch(f"{self.url}{path}", method="POST", body="")

    async def delete(self, kernel_id: str) -> None:
        await self._http.fetch(f"{self.url}/api/kernels/{kernel_id}", method="DELETE")

    def processes(self) -> list[int]:
        return [self.process.pid, *descendants(self.process.pid)]

    def stop(self) -> None:
        self._http.close()
        below = descendants(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in below:  # kernels that it left behind
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        self._log.close()


class Door:
    """kernelgate itself, as kernel gateway's clients see it. `url` has the token in its path."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = AsyncHTTPClient(force_instance=True, defaults={"request_timeout": PATIENCE_S})

    async def create(self) -> Remote:
        answer = await self._http.fetch(f"{self.url}/api/kernels", method="POST", body="{}")
        return await Remote(self, json.loads(answer.body)["id"]).connect()

    async def post(self, path: str) -> None:
        await self._http.fetch(f"{self.url}{path}", method="POST", body="")

    async def delete(self, kernel_id: str) -> None:
        await self._http.fetch(f"{self.url}/api/kernels/{kernel_id}", method="DELETE")


class Remote:
    """One of its kernels, over its WebSocket."""

    def __init__(self, server: KernelGateway | Door, kernel_id: str) -> None:
        self.server, self.id = server, kernel_id
        self._session = uuid.uuid4().hex
        self._socket: WebSocketClientConnection

    async def connect(self) -> Remote:
        url = f"{self.server.url.replace('http', 'ws', 1)}/api/kernels/{self.id}/channels?session_id={self._session}"
        self._socket = await websocket_connect(url, max_message_size=1 << 30)
        return self

    async def execute(self, code: str, *, until: str | None = None) -> float:
        """Runs code to its reply and its idle status; with `until` to the first message of that type. Characters of stdout that came."""
        message = uuid.uuid4().hex
        header = {"msg_id": message, "session": self._session, "username": "", "msg_type": "execute_request", "version": "5.3", "date": ""}
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        await self._socket.write_message(
            json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []})
        )
        replied = idle = False
        size = 0
        while not (replied and idle):
            text = await self._socket.read_message()
            assert text is not None, "the server hung up"
            found = json.loads(text)
            if found["parent_header"].get("msg_id") != message:
                continue
            kind = found["msg_type"]
            if kind == "stream":
                size += len(found["content"]["text"])
            if kind == until:
                until = None
                return size
            replied = replied or kind == "execute_reply"
            idle = idle or (kind == "status" and found["content"]["execution_state"] == "idle")
        return size

    async def restart(self) -> None:
        await self.server.post(f"/api/kernels/{self.id}/restart")

    async def close(self) -> None:
        self._socket.close()
        await self.server.delete(self.id)
