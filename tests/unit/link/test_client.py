"""Errors over the link: what a host says is believed as far as the closed set goes, and no further."""

from __future__ import annotations

import asyncio

import pytest

from kernelgate import errors
from kernelgate.link import client, frame
from kernelgate.link.client import _error


@pytest.mark.parametrize("known", sorted(errors.HOST_ERRORS.values(), key=lambda known: known.code))
def test_errors_of_the_closed_set_come_back_as_they_were(known):
    made = _error({"kind": known.code, "code": known.code, "message": "why", "details": {"a": 1}})
    assert (type(made), made.code, made.detail, made.details) == (known, known.code, "why", {"a": 1})


def test_a_more_precise_code_is_kept():
    made = _error({"kind": "invalid_request", "code": "too_many_contexts", "message": "why", "details": {}})
    assert (type(made), made.code) == (errors.InvalidRequest, "too_many_contexts")


@pytest.mark.parametrize("kind", [None, "unauthorized", "config_error", 5, "__class__"])
def test_anything_else_is_the_hosts_failure(kind):
    assert isinstance(_error({"kind": kind, "code": "x", "message": "boom"}), errors.RemoteProtocolError)


@pytest.mark.parametrize(
    "said", [{"code": "A\nB", "details": {"detail": 1, "code": 2, "self": 3}}, {"code": 5, "details": []}, {"code": "x" * 100}, {}]
)
def test_a_host_cannot_break_out_with_what_it_says(said):
    made = _error({"kind": "context_not_found", "message": None, **said})
    assert (type(made), made.code) == (errors.ContextNotFound, "context_not_found")


@pytest.mark.parametrize(("kept_s", "connections"), [(60.0, 1), (0.0, 2)])
def test_a_connection_is_used_again_for_as_long_as_a_host_does_not_sleep(tmp_path, kept_s, connections):
    answering = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        while await reader.read(1024):
            writer.write(frame.encode({"ok": {}, "end": True}))
        writer.close()
        await writer.wait_closed()

    async def ask_twice() -> None:
        async with await asyncio.start_unix_server(answer, tmp_path / "s"):
            link = client.Link(tmp_path / "s", kept_s=kept_s)
            for _ in range(2):
                assert await link.request("hello") == ({"ok": {}, "end": True}, b"")
            link.close()
            await asyncio.gather(*answering)

    asyncio.run(ask_twice())
    assert len(answering) == connections
