"""The gateway: settings to a running server, and its orderly end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import select
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from tornado import httpserver, netutil, web

from kernelgate import settings as settings_module
from kernelgate._aio import Tasks
from kernelgate.api import routes
from kernelgate.api.base import NotFoundHandler, Services
from kernelgate.api.jupyter.routes import JUPYTER
from kernelgate.api.listener import Listener, take_all_descriptors
from kernelgate.api.metrics import Metrics
from kernelgate.api.native.model import AskedLimits
from kernelgate.errors import ConfigError, KernelgateError, StorageUnavailable
from kernelgate.sessions import limits as session_limits
from kernelgate.sessions.keeper import Keeper
from kernelgate.sessions.registry import Registry, open_registry
from kernelgate.settings import Settings

log = logging.getLogger(__name__)

#: How long a gateway that starts waits for another one of the same data directory, besides what that one needs to drain.
_HANDOVER_S = 5.0
_THREADS = 6


class Gateway:
    """A running server. `start` makes it listen, `run` serves until told to stop, `stop` ends it in order."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data = Path(settings.data_dir)
        self._lock = _take_directory(self.data, settings.server.drain_s)
        self.registry = open_registry(self.data / "registry.sqlite")
        self.services = Services(settings, self.registry, Keeper(settings, self.registry), Metrics())
        handlers: list[Any] = [
            (path + "/?$", handler, {"services": self.services}) for path, handler in (*routes.NATIVE, *routes.SERVICE, *JUPYTER)
        ]
        application = web.Application(
            handlers,
            default_handler_class=NotFoundHandler,
            default_handler_args={"services": self.services},
            websocket_ping_interval=30,
            websocket_max_message_size=settings.server.max_body_bytes,
        )
        application.settings["log_function"] = _log_request
        # Bodies are limited by the handlers, which can say so; Tornado's own limit would drop the connection without a word.
        self.server = httpserver.HTTPServer(application, max_body_size=1 << 40, idle_connection_timeout=600, max_header_size=64 * 1024)
        self.url = ""
        self._tasks = Tasks()
        self._stop = asyncio.Event()

    async def start(self) -> None:
        """Raises SandboxUnavailable, or OSError where the address is taken."""
        server = self.settings.server
        sockets: list[Any] = [Listener(sock) for sock in netutil.bind_sockets(server.port, server.host, reuse_port=False)]
        try:
            await self.services.keeper.start()
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        self.server.add_sockets(sockets)
        self.services.port = sockets[0].getsockname()[1]
        host = server.host if server.host not in ("0.0.0.0", "::", "") else "127.0.0.1"  # noqa: S104 - what to show for "all addresses"
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.services.port}"
        self._announce()

    def _announce(self) -> None:
        """How this machine's own user reaches the server; and, for the next gateway, whether this one is about to go."""
        facts = {"url": self.url, "token": self.token(), "pid": os.getpid(), "draining": self.services.draining}
        _write_private(self.data / "server.json", json.dumps(facts) + "\n")

    def token(self) -> str:
        """The token of this machine's own user, made at the first start; it is in a file that only that user can read."""
        path = self.data / "token"
        with contextlib.suppress(FileNotFoundError):
            secret = path.read_text().strip()
            if self.registry.token(secret) is not None:
                return secret
        _, secret = self.registry.create_token("local", network=True)
        _write_private(path, secret + "\n")
        return secret

    def heed_signals(self) -> None:
        """From here on SIGTERM and SIGINT mean an orderly end. Called before anything is started: a signal may come at any moment."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # whoever started this may have blocked some

    async def run(self, *, parent: int | None) -> None:
        """Until told to stop, or until the parent is gone, which it may be already."""
        if parent is not None:
            self._tasks.start(self._watch_parent(parent), "parent:watch")
        await self._stop.wait()

    async def _watch_parent(self, parent: int) -> None:
        # pidfd: the event of its end, without a race against its pid being used again (it is our parent now).
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(parent)
            gone = asyncio.Event()
            asyncio.get_running_loop().add_reader(pidfd, gone.set)
            try:
                if os.getppid() == parent:
                    await gone.wait()
            finally:
                asyncio.get_running_loop().remove_reader(pidfd)
                os.close(pidfd)
        self._stop.set()

    async def stop(self, *, end_sessions: bool) -> None:
        """Takes no new requests, lets those under way finish (`server.drain_s` at the most), lets go of the sessions.

        As soon as no session is half made any more the port and the data directory are free: the next gateway can serve while this one still answers what it has begun.
        """
        self.services.draining = True
        with contextlib.suppress(OSError, KernelgateError):
            self._announce()
        await self.services.keeper.drain()
        self.server.stop()
        if not end_sessions:
            os.close(self._lock)
        for channel in list(self.services.channels):
            channel.drain()
        busy = [session for session in self.services.keeper.live() if session.busy]
        deadline = time.monotonic() + (0 if end_sessions else self.settings.server.drain_s)
        while any(session.busy for session in busy) and time.monotonic() < deadline:  # noqa: ASYNC110 - they end in many places
            await asyncio.sleep(0.05)
        await self.services.keeper.close(end_sessions=end_sessions)
        await self.server.close_all_connections()
        await self.services.tasks.close()
        await self._tasks.close()
        with contextlib.suppress(OSError, ValueError):
            if json.loads((self.data / "server.json").read_text())["pid"] == os.getpid():
                (self.data / "server.json").unlink()
        self.registry.close()
        if end_sessions:
            os.close(self._lock)


def _take_directory(data: Path, drain_s: float) -> int:
    """Makes the data directory where there is none, and takes it for this process: the descriptor of its lock.

    A gateway that drains lets go of it in a moment, and is waited for. Raises ConfigError where another one serves it, StorageUnavailable where it cannot be written.
    """
    try:
        data.mkdir(mode=0o711, parents=True, exist_ok=True)
        (data / "sessions").mkdir(mode=0o711, exist_ok=True)
        lock = os.open(data / "gateway.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StorageUnavailable(f"the data directory {data} cannot be used: {exc.strerror} (data_dir)") from exc
    since = time.monotonic()
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        facts = {}
        with contextlib.suppress(OSError, ValueError):
            facts = json.loads((data / "server.json").read_text())
        # One that was told to stop may not have heard it yet.
        if time.monotonic() > since + (drain_s + _HANDOVER_S if facts.get("draining") else _HANDOVER_S):
            os.close(lock)
            raise ConfigError(
                f"another gateway (process {facts.get('pid', 'unknown')}) serves the data directory {data}; `kernelgate stop` stops it"
            )
        time.sleep(0.02)


def _write_private(path: Path, text: str) -> None:
    """A file for this user alone, there whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    temporary.rename(path)


def _log_request(handler: Any) -> None:
    status = handler.get_status()
    level = logging.ERROR if status == 500 else logging.WARNING if status > 500 else logging.INFO  # 500 alone is our fault for certain
    extra = {
        "request_id": getattr(handler, "request_id", None),
        "method": handler.request.method,
        "path": handler.request.path,
        "status": status,
    }
    log.log(level, "request", extra={**extra, "ms": round(1000 * handler.request.request_time(), 2)})


class _JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message and whatever ids the record has."""

    _FIELDS = ("request_id", "session_id", "method", "path", "status", "ms")

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: value for name in self._FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kernelgate serve", description="Starts the gateway.")
    parser.add_argument("--host", help="address to listen on (server.host)")
    parser.add_argument("--port", help="port to listen on, 0 for a free one (server.port)")
    parser.add_argument("--data-dir", help="where everything is kept (data_dir)")
    parser.add_argument("--config", help="settings file, TOML")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="any other setting; may be given again and again"
    )
    parser.add_argument("--print-config", action="store_true", help="shows the settings in force and ends")
    parser.add_argument(
        "--exit-with-parent",
        type=int,
        metavar="PID",
        help="ends, with all sessions, when this process does, which is the one that started it",
    )
    return parser


def read_settings(arguments: argparse.Namespace) -> Settings:
    """From all sources. Raises ConfigError."""
    flags: dict[str, Any] = {}
    for text in arguments.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set takes SECTION.KEY=VALUE, got {text!r}")
        flags[key] = value
    named = {"server.host": arguments.host, "server.port": arguments.port, "data_dir": arguments.data_dir}
    flags |= {key: value for key, value in named.items() if value is not None}
    return settings_module.load(config=arguments.config, environ=os.environ, flags=flags)  # noqa: TID251 - here they are read


def main(argv: list[str]) -> int:
    """`kernelgate serve`. 0 after an orderly end, 1 where it cannot start, 2 for wrong settings."""
    arguments = _parser().parse_args(argv)
    try:
        settings = read_settings(arguments)
    except ConfigError as exc:
        print(f"kernelgate: {exc.detail}", file=sys.stderr)
        return 2
    if arguments.print_config:
        print(json.dumps(msgspec.to_builtins(settings), indent=2))
        return 0
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    take_all_descriptors()
    try:
        return asyncio.run(_serve(settings, parent=arguments.exit_with_parent))
    except KernelgateError as exc:
        print(f"kernelgate: {exc.detail}", file=sys.stderr)
    except OSError as exc:
        print(f"kernelgate: {settings.server.host}:{settings.server.port} cannot be used: {exc.strerror or exc}", file=sys.stderr)
    return 1


def _threads() -> ThreadPoolExecutor:
    """What reads files aside from the event loop. They are all started now: later there may be no room for a thread."""
    executor, started = ThreadPoolExecutor(_THREADS), threading.Barrier(_THREADS + 1)
    for _ in range(_THREADS):
        executor.submit(started.wait)
    started.wait()
    return executor


async def _serve(settings: Settings, *, parent: int | None) -> int:
    asyncio.get_running_loop().set_default_executor(_threads())
    gateway = Gateway(settings)
    gateway.heed_signals()
    await gateway.start()
    _greet(gateway)
    await gateway.run(parent=parent)
    await gateway.stop(end_sessions=parent is not None)
    return 0


def _greet(gateway: Gateway) -> None:
    """What a person wants to know: where it is, with which token, and which languages are there."""
    from kernelgate import languages  # noqa: PLC0415

    node = gateway.services.keeper.node
    print(f"\n  kernelgate is ready at {gateway.url}\n  token: {gateway.token()}\n")
    print(f"  limits by: {node.mechanism}\n")
    for warning in node.warnings():
        print(f"  WARNING: {warning}\n")
    for one in languages.load(node.python["prefix"]).values():
        print(f"  {one.display_name:28} {'ready' if one.ready else 'not installed; to get it: ' + one.install_command}")
    print(flush=True)


def _settings_in(data_dir: str | None) -> Settings | None:
    """The settings, of another data directory where one is named; None, with the reason said, where they are wrong."""
    try:
        flags = {"data_dir": data_dir} if data_dir else {}
        return settings_module.load(environ=os.environ, flags=flags)  # noqa: TID251 - here they are read
    except ConfigError as exc:
        print(f"kernelgate: {exc.detail}", file=sys.stderr)
        return None


def token_main(argv: list[str]) -> int:
    """`kernelgate token [create NAME [--ceiling LIMIT=VALUE ...] [--network] | list | revoke ID] [--data-dir DIR]`; without an action, shows this machine's own."""
    parser = argparse.ArgumentParser(prog="kernelgate token", description="Tokens that callers show. A token sees only its own sessions.")
    parser.add_argument("action", nargs="?", choices=("show", "create", "list", "revoke"), default="show")
    parser.add_argument("name", nargs="?", help="a name for the new token; the id or name of the one to revoke")
    parser.add_argument(
        "--ceiling",
        action="append",
        default=[],
        metavar="LIMIT=VALUE",
        help="the most that a session of the new token may have, as memory_bytes=1073741824; no more than the server's own ceiling. May be repeated",
    )
    parser.add_argument("--data-dir")
    parser.add_argument(
        "--network", action="store_true", help="the new token's sessions may ask for a network, where sandbox.network is on"
    )
    arguments = parser.parse_args(argv)
    settings = _settings_in(arguments.data_dir)
    if settings is None:
        return 2
    data = Path(settings.data_dir)
    data.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        registry = Registry(data / "registry.sqlite")
    except KernelgateError as exc:
        print(f"kernelgate: {exc.detail}", file=sys.stderr)
        return 1
    try:
        if arguments.action in ("create", "revoke") and not arguments.name:
            parser.error(f"{arguments.action} needs a name")
        if (arguments.ceiling or arguments.network) and arguments.action != "create":
            parser.error("--ceiling and --network are for a token that is created")
        if arguments.action == "create":
            try:
                ceilings = _ceilings(arguments.ceiling, settings)
            except ConfigError as exc:
                parser.error(exc.detail)
            print(registry.create_token(arguments.name, ceilings, network=arguments.network)[1])
        elif arguments.action == "list":
            for token in registry.tokens():
                ceilings = token.ceilings
                print(
                    f"{token.id}  {token.name}  {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(token.created_at))}",
                    *(["network"] if token.network else []),
                    *(f"{name}={ceilings[name]:.15g}" for name in sorted(ceilings)),
                    sep="  ",
                )
        elif arguments.action == "revoke":
            if not registry.revoke_token(arguments.name):
                print(f"kernelgate: there is no token {arguments.name!r}", file=sys.stderr)
                return 1
        else:
            try:
                print((data / "token").read_text().strip())
            except FileNotFoundError:
                print(
                    "kernelgate: no token yet; one is made when the server first starts, or by `kernelgate token create NAME`",
                    file=sys.stderr,
                )
                return 1
    finally:
        registry.close()
    return 0


def _ceilings(texts: list[str], settings: Settings) -> dict[str, float]:
    """Those of a new token. Raises ConfigError: an unknown limit, a value that no session may ask for, or more than the server allows."""
    most, found = session_limits.ceilings(settings), {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in most:
            raise ConfigError(f"--ceiling takes LIMIT=VALUE with one of {', '.join(sorted(most))}; got {text!r}")
        try:
            found[name] = getattr(msgspec.convert({name: value}, AskedLimits, strict=False), name)
        except msgspec.ValidationError as exc:
            raise ConfigError(f"--ceiling {text}: {exc}") from exc
        if found[name] is None:
            raise ConfigError(f"--ceiling {text}: a number is expected; leave it out for the server's own ceiling")
        ceiling, setting = most[name]
        if session_limits.above(found[name], ceiling):
            raise ConfigError(f"--ceiling {text}: this server allows {ceiling:.15g} at the most ({setting})")
    return found


def stop_main(argv: list[str]) -> int:
    """`kernelgate stop [--sessions] [--data-dir DIR]`: the server, in order; sessions live on for the next one, unless they are to end too."""
    parser = argparse.ArgumentParser(
        prog="kernelgate stop", description="Stops the server of this machine. Its sessions live on until one is started again."
    )
    parser.add_argument("--sessions", action="store_true", help="ends all sessions too, and what keeps them: nothing is left running")
    parser.add_argument("--data-dir")
    arguments = parser.parse_args(argv)
    settings = _settings_in(arguments.data_dir)
    if settings is None:
        return 2
    data = Path(settings.data_dir)
    stopped = _stop_server(data / "server.json", settings.server.drain_s)
    if arguments.sessions and (data / "registry.sqlite").exists():
        try:
            ended = asyncio.run(_end_sessions(settings))
        except KernelgateError as exc:
            print(f"kernelgate: {exc.detail}", file=sys.stderr)
            return 1
        print(f"{'stopped; ' if stopped else ''}{ended} session{'' if ended == 1 else 's'} ended")
    else:
        print("stopped" if stopped else "no server was running")
    return 0


def _stop_server(file: Path, drain_s: float) -> bool:
    """Asks the server that `file` names to stop and waits until it has. Whether there was one."""
    try:
        pid = int(json.loads(file.read_text())["pid"])
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError, KeyError):
        return False
    try:
        # The file outlives a killed server, and pids come round again.
        if b"kernelgate" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        select.select([pidfd], [], [], drain_s + 30)
    except (ProcessLookupError, FileNotFoundError):
        return False
    finally:
        os.close(pidfd)
    return True


async def _end_sessions(settings: Settings) -> int:
    registry = Registry(Path(settings.data_dir) / "registry.sqlite")
    keeper = Keeper(settings, registry)
    count = len(registry.by_state("running"))
    await keeper.node.start()
    await keeper.close(end_sessions=True)
    registry.close()
    return count
