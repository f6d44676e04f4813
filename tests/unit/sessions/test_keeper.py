"""The keeper's patience with hosts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from kernelgate.errors import HostUnavailable
from kernelgate.link import frame
from kernelgate.link.client import Link
from kernelgate.sessions.keeper import Keeper


def said_by_one_that_hangs_up(tmp_path, times: int, *, lives: bool):
    """What a gateway that starts hears of a host that hangs up so often before it answers."""
    left = [times]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        if left[0]:
            left[0] -= 1
        else:
            writer.write(frame.encode({"ok": {"idle_s": 1.0}, "end": True}))
        writer.close()
        await writer.wait_closed()

    async def ask() -> dict:
        keeper = Keeper.__new__(Keeper)
        keeper.node = SimpleNamespace(is_alive=lambda *_: lives)
        async with await asyncio.start_unix_server(answer, tmp_path / "s"):
            link = Link(tmp_path / "s")
            try:
                return await keeper._hello(SimpleNamespace(link=link, row=SimpleNamespace(pid=1, start_ticks=1)))
            finally:
                link.close()

    return asyncio.run(ask())


def test_a_host_that_hangs_up_is_asked_again_while_its_init_lives(tmp_path):
    """A gateway that started just when a host died, or fell asleep, took the session for lost, and ended it."""
    assert said_by_one_that_hangs_up(tmp_path, 3, lives=True)["ok"]["idle_s"] == 1.0


def test_a_session_whose_init_is_gone_is_not_waited_for(tmp_path):
    with pytest.raises(HostUnavailable):
        said_by_one_that_hangs_up(tmp_path, 3, lives=False)
