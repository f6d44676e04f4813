"""`session.pty`: terminals, attached to, lost, and attached to again."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest

from kernelgate.sdk import AsyncClient, Client, errors

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

TWICE = b"said\r\n.*said\r\n"
SHELL = {"shell": "/bin/sh", "env": {"PS1": "$ "}}


def until(output, wanted):
    """Reads on until a regular expression finds this in what came. What came."""
    shown = b""
    for data in output:
        shown += data
        if re.search(wanted, shown, re.DOTALL):
            return shown
    raise AssertionError(shown)


def test_a_terminal(live):
    terminal = live.pty.create(rows=30, cols=100, cwd="/tmp", **SHELL)
    assert (terminal.info.rows, terminal.info.cols, terminal.info.cwd, terminal.info.exit_code) == (30, 100, "/tmp", None)
    with terminal.attach() as screen, terminal.attach() as other:
        output, others = screen.output(), other.output()
        screen.write("stty size; pwd; tty\n")
        assert b"30 100\r\n/tmp\r\n/dev/pts/" in until(output, b"/dev/pts/")
        screen.resize(40, 120)
        screen.write(b"stty size\n")
        until(output, b"40 120")
        screen.write("cat\nsaid\n")
        until(output, TWICE)  # by the terminal, and by cat
        screen.signal("SIGINT")
        screen.write("echo back-$((2 + 1))\n")  # the same way, so behind the signal
        until(output, b"back-3\r\n")
        other.write("echo both-$((1 + 1))\n")
        until(output, b"both-2\r\n")
        until(others, b"both-2\r\n")
    with terminal.attach() as screen:
        assert b"40 120" in until(screen.output(), b"both-2\r\n")  # replayed
        screen.resize(0, 0)
        with pytest.raises(errors.InvalidRequest):
            list(screen.output())
    assert live.pty.get(terminal.id).resize(20, 90).cols == 90
    terminal.send_input("cat\nlater\n")
    with terminal.attach() as screen:
        until(screen.output(), b"later\r\n.*later\r\n")
    terminal.signal("SIGINT")
    heard = []
    ender = threading.Timer(0.05, terminal.write, ["exit 7\n"])
    ender.start()
    assert terminal.wait(on_output=heard.append) == 7
    ender.join()
    assert b"exit 7" in b"".join(heard)
    assert terminal.refresh().exit_code == 7
    killed = live.pty.create(**SHELL)
    assert {one.id for one in live.pty.list()} == {terminal.id, killed.id}
    killed.kill()
    assert killed.wait() == 129
    with pytest.raises(errors.NotFound):
        live.pty.get("none")


def test_a_lost_connection_is_made_again_and_nothing_is_shown_twice(server, wire, live):
    direct = live.pty.create(**SHELL)
    with Client(wire.url, server.token) as client:
        terminal = client.sessions.get(live.id).pty.get(direct.id)
        with terminal.attach() as screen:
            output = screen.output()
            screen.write("echo first-$((1 + 1))\n")
            before = until(output, b"first-2\r\n")
            wire.cut()
            direct.write("echo second-$((1 + 1))\n")
            after = until(output, b"second-2\r\n")
            assert before.count(b"first-2") == 1
            assert b"first-2" not in after
            wire.refuse(True)
            direct.write("exit 5\n")
            threading.Timer(0.2, wire.refuse, [False]).start()
            list(output)
            assert screen.exit_code == 5


def test_awaited(server):
    async def main():
        async with AsyncClient(server.url, server.token) as client, await client.sessions.create() as session:
            terminal = await session.pty.create(**SHELL)
            shown = []
            async with terminal.attach() as screen:
                await screen.write("echo $((40 + 2)); exit 3\n")
                shown += [data async for data in screen.output()]
                assert screen.exit_code == 3
            assert b"42\r\n" in b"".join(shown)
            assert await terminal.wait() == 3
            with pytest.raises(errors.InvalidUse):
                await anext(terminal.attach().output())
            gone = await session.pty.create(**SHELL)
            await session.delete()
            with pytest.raises(errors.KernelgateError):
                await gone.wait()

    asyncio.run(main())
