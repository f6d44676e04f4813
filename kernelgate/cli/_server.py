"""The server a command talks to: the one that runs, or an embedded one for this command alone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kernelgate.sdk import Client, _discovery
from kernelgate.sdk.errors import ServerFault, ServerNotFound

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from kernelgate.sdk import Session

# A cold start imports what the zygote preloads; on a small machine that takes some seconds.
_START_S = 60.0
_STOP_S = 10.0
_LOOK_EVERY_S = 0.02


@contextmanager
def client(options: argparse.Namespace, *, embed: bool = False) -> Iterator[Client]:
    """A client for the command's server.

    Args:
        options: with `url` and `token`.
        embed: start a server where none runs, and end it with the block. One that was named, by
            flag or environment, is never replaced.
    """
    with ExitStack() as stack:
        url, token = options.url, options.token
        if embed and not _runs(options):
            # Its own token, and not one that the environment has for another server.
            started = stack.enter_context(embedded())
            url, token = started.url, started.token
        yield stack.enter_context(Client(url, token))


@contextmanager
def session(options: argparse.Namespace) -> Iterator[Session]:
    """The session a command runs code in: the one it names, which is kept, or one for the block."""
    with ExitStack() as stack:
        connected = stack.enter_context(client(options, embed=options.session is None))
        if options.session is None:
            yield stack.enter_context(connected.sessions.create())
        else:
            yield connected.sessions.get(options.session)


def _runs(options: argparse.Namespace) -> bool:
    try:
        endpoint = _discovery.find(options.url, options.token)
    except ServerNotFound:
        return False
    if options.url or endpoint.file is None:
        return True
    # A server that was killed leaves its file behind.
    address = urlsplit(endpoint.url)
    try:
        socket.create_connection((address.hostname or "", address.port or 80), timeout=2).close()
    except OSError:
        return False
    return True


@contextmanager
def embedded() -> Iterator[_discovery.Endpoint]:
    """A server that lives as long as the block; where it is. Of the main thread: from now on SIGTERM and SIGHUP end this process by way of the block's end.

    Raises:
        ServerFault: it did not start; the message has what it said.
    """
    ending = (signal.SIGTERM, signal.SIGHUP)
    for number in ending:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    # They wait until what is made here is sure to be taken away again.
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    directory = Path(tempfile.mkdtemp(prefix="kernelgate-"))
    log = directory / "serve.log"
    flags = ["--data-dir", str(directory), "--port", "0", "--exit-with-parent", str(os.getpid())]
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "kernelgate", "serve", *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C at the terminal is for the code that runs, not for the server under it.
                process_group=0,
            )
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ending)
            yield _wait_until_ready(process, directory / _discovery.SERVER_FILE, log)
        finally:
            _stop(process)
    finally:
        # Sessions' files may belong to uids of their own, and stay until the machine's own cleaning
        # where this user may not remove them.
        shutil.rmtree(directory, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[bytes], file: Path, log: Path) -> _discovery.Endpoint:
    give_up_at = time.monotonic() + _START_S
    shown = False
    while (found := _discovery.read(file)) is None:
        if process.poll() is not None or time.monotonic() > give_up_at:
            said = log.read_text(errors="replace").strip().splitlines()[-8:]
            message = "the embedded server did not start:\n  " + "\n  ".join(said or ["(it said nothing)"])
            raise ServerFault(message, code="embedded_server_failed", hint="run `kernelgate serve` to see all it says")
        if not shown and sys.stderr.isatty() and give_up_at - time.monotonic() < _START_S - 0.3:
            sys.stderr.write("\r\x1b[2Kstarting a server for this command ...")
            sys.stderr.flush()
            shown = True
        time.sleep(_LOOK_EVERY_S)
    if shown:
        sys.stderr.write("\r\x1b[2K")
        sys.stderr.flush()
    return found


def _stop(process: subprocess.Popen[bytes]) -> None:
    # SIGTERM ends its sessions and its zygote too, as it was started with --exit-with-parent.
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
