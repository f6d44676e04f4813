"""A lost connection, a cut stream, a killed gateway: the caller sees none of them."""

import asyncio
import threading
import time

import pytest

from kernelgate.sdk import AsyncClient, Client, Retry, errors
from tests.support.server import Server

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

COUNT = "import time\nfor n in range(40):\n    print(n, flush=True)\n    time.sleep(0.05)\n'counted'"
COUNTED = "".join(f"{n}\n" for n in range(40))


def test_a_stream_that_is_cut_again_and_again_is_heard_once_and_whole(server, wire):
    with Client(wire.url, server.token) as client, client.sessions.create() as session:
        wire.cut_each_after(700)
        heard, seqs = [], []

        def note(event):
            seqs.append(event.seq)
            if event.type == "end":
                # The result, which is asked for next, is larger than what a cut connection lets through.
                wire.cut_after_bytes = None

        result = session.code.run(COUNT, on_stdout=heard.append, on_event=note)
        assert "".join(heard) == result.stdout == COUNTED
        assert seqs == sorted(set(seqs))
        assert result.result == "'counted'"
        assert wire.connections > 4


def test_a_cut_at_any_byte_of_the_answer_is_survived(server, wire):
    with Client(wire.url, server.token, retries=Retry(for_s=30, first_pause_s=0.01)) as client, client.sessions.create() as session:
        for limit in range(1, 1200, 97):
            # A cut within the headers of every answer would never let one through.
            threading.Timer(0.3, lambda: setattr(wire, "cut_after_bytes", None)).start()
            wire.cut_each_after(limit)
            heard = []
            session.code.run("for n in range(5): print(n)", on_stdout=heard.append)
            assert "".join(heard) == "0\n1\n2\n3\n4\n", limit
            wire.cut_after_bytes = None
        count = session.code.run("1").execution_count
        assert count == 1 + len(range(1, 1200, 97)), "something ran twice"


def test_a_wait_without_a_stream_survives_a_cut_too(server, wire):
    with Client(wire.url, server.token) as client, client.sessions.create() as session:
        threading.Timer(0.5, wire.cut).start()
        result = session.code.run("import time\ntime.sleep(1.5)\n'slept'")
        assert (result.result, result.execution_count) == ("'slept'", 1)


def test_a_server_that_is_away_for_a_while_is_waited_for(server, wire):
    with Client(wire.url, server.token) as client, client.sessions.create() as session:
        threading.Timer(0.5, wire.refuse, [True]).start()
        threading.Timer(2.0, wire.refuse, [False]).start()
        heard = []
        assert session.code.run(COUNT, on_stdout=heard.append).stdout == COUNTED
        assert "".join(heard) == COUNTED
        assert client.sessions.get(session.id).id == session.id


def test_a_server_that_stays_away_is_told_when_the_time_is_up(server, wire):
    with Client(wire.url, server.token, retries=1) as client, client.sessions.create() as session:
        threading.Timer(0.3, wire.refuse, [True]).start()
        begun_at = time.monotonic()
        with pytest.raises(errors.ConnectionProblem) as caught:
            session.code.run(COUNT, on_stdout=lambda text: None)
        assert 1 < time.monotonic() - begun_at < 10
        assert caught.value.hint
        wire.refuse(False)


def test_the_asynchronous_client_survives_the_same(server, wire):
    async def story():
        async with AsyncClient(wire.url, server.token) as client, await client.sessions.create() as session:
            wire.cut_each_after(700)
            heard = []

            async def hear(text):
                await asyncio.sleep(0)
                heard.append(text)
                if text == "39\n":
                    wire.cut_after_bytes = None

            result = await session.code.run(COUNT, on_stdout=hear)
            assert "".join(heard) == result.stdout == COUNTED

    asyncio.run(story())
    assert wire.connections > 4


def test_a_gateway_that_is_killed_and_started_again_is_not_noticed(tmp_path):
    with Server(tmp_path / "data", "sessions.pool_size=1") as own, Client(own.url, own.token) as client:
        session = client.sessions.create()
        session.code.run("kept = 5")

        def kill_and_start():
            time.sleep(0.7)
            own.kill()
            own.start()

        restart = threading.Thread(target=kill_and_start)
        restart.start()
        heard = []
        result = session.code.run(COUNT, on_stdout=heard.append)
        restart.join()
        assert "".join(heard) == result.stdout == COUNTED
        assert result.success
        # And by the file that the server leaves, as a user without an address finds it.
        with Client(data_dir=own.data_dir) as found:
            assert found.sessions.get(session.id).code.run("kept").result == "5"
        session.delete()
