"""A real kernel from its installed folder, and one cell of it as data."""

from __future__ import annotations

import os
import queue
import select
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

REPOSITORY = Path(__file__).parents[2]
TIMEOUT_S = 20.0


def is_gone(pid: int) -> bool:
    """Whether the process ends in the next second, or has ended; one nobody has reaped yet has."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 1)[0])
    finally:
        os.close(pidfd)


@dataclass
class Cell:
    """What one execution sent, in order."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    prompts: list[tuple[str, bool]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)
    took_s: float = 0.0
    interrupted_s: float = 0.0
    is_dead: bool = False

    def text(self, name: str) -> str:
        return "".join(out["text"] for out in self.outputs if out.get("name") == name)

    @property
    def stdout(self) -> str:
        return self.text("stdout")

    @property
    def stderr(self) -> str:
        return self.text("stderr")

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [out for out in self.outputs if out["type"] == kind]

    @property
    def result(self) -> dict[str, Any] | None:
        results = self.of("execute_result")
        assert len(results) <= 1
        return results[0]["data"] if results else None

    @property
    def displays(self) -> list[dict[str, Any]]:
        return [out["data"] for out in self.of("display_data")]

    @property
    def error(self) -> tuple[str, str] | None:
        errors = self.of("error")
        assert len(errors) <= 1
        assert bool(errors) == (self.reply.get("status") == "error")
        return (errors[0]["ename"], errors[0]["evalue"]) if errors else None

    @property
    def order(self) -> list[str]:
        """The kinds of output, streams by name."""
        return [out.get("name") or out["type"] for out in self.outputs]


def hears_a_namesake(client: BlockingKernelClient) -> bool:
    """Whether a kernel answers a client that has the name of another one whose connection has not ended yet, as a host has that follows one that was killed."""
    info = client.get_connection_info()
    separator = "-" if info["transport"] == "ipc" else ":"
    with zmq.Context() as context, context.socket(zmq.DEALER) as first, context.socket(zmq.DEALER) as second:
        for sock in (first, second):
            sock.linger = 0
            sock.setsockopt(zmq.IDENTITY, b"the same name")
            sock.connect(f"{info['transport']}://{info['ip']}{separator}{info['shell_port']}")
            client.session.send(sock, "kernel_info_request", {})
            if not sock.poll(1000 * TIMEOUT_S):
                return False
    return True


class Kernel:
    """One kernel over ipc (or tcp), with a blocking client."""

    def __init__(self, name: str, transport: str = "ipc") -> None:
        folder = Path(sys.prefix, "share", "jupyter", "kernels", name)
        if not (folder / "kernel.json").is_file():
            pytest.skip(f"{name}: not installed in {folder}")
        self.directory = tempfile.mkdtemp()
        # By folder and not by name: a kernel of the same name in the home directory is another one.
        self.manager = KernelManager(kernel_name=name, transport=transport)
        self.manager._kernel_spec = KernelSpec.from_resource_dir(str(folder))
        if transport == "ipc":
            self.manager.ip = f"{self.directory}/s"
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": self.directory}
        self.manager.start_kernel(cwd=self.directory, env=env)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=TIMEOUT_S)

    def close(self) -> None:
        self.client.stop_channels()
        if self.manager.is_alive():
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.pid)

    def wait_status(self) -> int:
        """The exit status, once the process is gone."""
        return int(self.manager.provisioner.process.wait(TIMEOUT_S))

    def send(self, code: str, env: dict[str, str] | None = None, **content: Any) -> str:
        request = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        metadata = {"kernelgate": {"env": env}} if env else {}
        message = self.client.session.msg("execute_request", request | content, metadata=metadata)
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def run(
        self,
        code: str,
        *,
        env: dict[str, str] | None = None,
        answers: list[str] | None = None,
        interrupt_at: str | None = None,
        **content: Any,
    ) -> Cell:
        """Execute a cell; `interrupt_at` is the output text after which to interrupt."""
        cell = Cell()
        begun = time.monotonic()
        request = self.send(code, env, allow_stdin=answers is not None, **content)
        interrupted_at = 0.0
        while True:
            if time.monotonic() - begun > TIMEOUT_S:
                pytest.fail(f"no idle after {TIMEOUT_S} s: {code!r}, {cell}")
            if answers and self.client.stdin_channel.msg_ready():
                asked = self.client.stdin_channel.get_msg()["content"]
                cell.prompts.append((asked["prompt"], asked["password"]))
                self.client.input(answers.pop(0))
            try:
                message = self.client.iopub_channel.get_msg(timeout=0.02)
            except queue.Empty:
                if not self.manager.is_alive():
                    cell.is_dead = True
                    return cell
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content_ = message["msg_type"], message["content"]
            if kind == "status" and content_["execution_state"] == "idle":
                break
            if kind in ("stream", "display_data", "execute_result", "error", "clear_output"):
                cell.outputs.append({"type": kind, **content_})
                cell.times_s.append(time.monotonic() - begun)
            if interrupt_at is not None and interrupt_at in cell.stdout:
                interrupt_at, interrupted_at = None, time.monotonic()
                self.manager.interrupt_kernel()
        cell.took_s = time.monotonic() - begun
        cell.interrupted_s = time.monotonic() - interrupted_at
        cell.reply = self.reply(request)
        return cell

    def reply(self, request: str) -> dict[str, Any]:
        while True:
            message = self.client.shell_channel.get_msg(timeout=TIMEOUT_S)
            if message["parent_header"].get("msg_id") == request:
                return dict(message["content"])

    def ask(self, kind: str, **content: Any) -> dict[str, Any]:
        message = self.client.session.msg(kind, content)
        self.client.shell_channel.send(message)
        return self.reply(message["header"]["msg_id"])

    def next_stream(self) -> dict[str, Any]:
        """The next stream message, whatever its parent."""
        while True:
            message = self.client.iopub_channel.get_msg(timeout=TIMEOUT_S)
            if message["msg_type"] == "stream":
                return {**message["content"], "parent": message["parent_header"].get("msg_id")}
