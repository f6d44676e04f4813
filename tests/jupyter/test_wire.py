"""What Jupyter's own servers lose, drop or never answer, by their measured weaknesses: here it all arrives, once and in order."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from tests.jupyter.conftest import start
from tests.support.frontend import Frontend, kind, state, text

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

#: Prints slowly enough that a test can leave and come back in between, each line by itself.
SLOW = "import time\nfor number in range(60):\n    print(number, flush=True)\n    time.sleep(0.01)"
SLOW_TEXT = "".join(f"{number}\n" for number in range(60))


def statuses(messages):
    """How a request was answered."""
    return [message["content"]["status"] for message in messages if message["channel"] == "shell"]


def test_a_cell_has_the_messages_that_a_frontend_waits_for(frontend):
    """Each channel in order; between the two there is none, as with every kernel."""
    messages = frontend.run("print('a'); 6*7")
    assert [kind(message) for message in messages if message["channel"] == "shell"] == ["shell:execute_reply"]
    assert [state(message) or message["header"]["msg_type"] for message in messages if message["channel"] == "iopub"] == [
        "busy", "execute_input", "stream", "execute_result", "idle",
    ]  # fmt: skip


def test_both_framings_carry_buffers_both_ways(server, kernel):
    code = """
from comm import create_comm
comm = create_comm(target_name="echo")
comm.on_msg(lambda message: comm.send({"got": [bytes(one).decode() for one in message["buffers"]]}, buffers=message["buffers"]))
comm.comm_id
"""
    for v1 in (True, False):
        with Frontend(server, kernel, v1=v1) as one:
            (result,) = [message for message in one.run(code) if kind(message) == "iopub:execute_result"]
            comm_id = result["content"]["data"]["text/plain"].strip("'")
            sent = one.send("comm_msg", {"comm_id": comm_id, "data": {}}, buffers=[b"first", b"", b"third"])
            echo = one.wait(lambda message, sent=sent: kind(message) == "iopub:comm_msg" and message["parent_header"]["msg_id"] == sent)
            assert echo["content"]["data"] == {"got": ["first", "", "third"]}
            assert echo["buffers"] == [b"first", b"", b"third"]


def test_every_one_of_5000_prints_arrives(frontend):
    messages = frontend.run("for number in range(5000): print(number, flush=True)")
    assert text(messages) == "".join(f"{number}\n" for number in range(5000))


def test_twenty_megabytes_of_text_arrive(frontend):
    messages = frontend.run("for number in range(200): print(str(number % 10) * 100_000)")
    lines = text(messages).splitlines()
    assert [(len(line), line[0]) for line in lines] == [(100_000, str(number % 10)) for number in range(200)]


def test_every_one_of_8000_displays_arrives(frontend):
    messages = frontend.run("from IPython.display import display\nfor number in range(8000): display(number)")
    shown = [message["content"]["data"]["text/plain"] for message in messages if kind(message) == "iopub:display_data"]
    assert shown == [str(number) for number in range(8000)]


def test_a_client_that_comes_back_gets_what_it_missed(server, kernel):
    """Closed in order, and broken off, alone and while another client stays; as itself, and under another name."""
    for break_off, stays, same in (
        (False, False, True),
        (True, False, True),
        (False, True, True),
        (True, True, True),
        (False, False, False),
    ):
        other = Frontend(server, kernel) if stays else None
        first = Frontend(server, kernel)
        asked = first.execute(SLOW)
        first.wait(lambda message: message["header"]["msg_type"] == "stream" and message["content"]["text"].startswith("9"))
        (first.abort if break_off else first.close)()
        with Frontend(server, kernel, session=first.session if same else "") as second:
            second.finish(asked)
            ids, both = set(), []
            for message in first.of(asked) + second.of(asked):
                if message["header"]["msg_id"] not in ids:
                    ids.add(message["header"]["msg_id"])
                    both.append(message)
            assert text(both) == SLOW_TEXT, (break_off, stays, same)
        if other is not None:
            other.wait(lambda message, asked=asked: state(message) == "idle" and message["parent_header"].get("msg_id") == asked)
            assert text(other.of(asked)) == SLOW_TEXT
            other.close()


def test_who_reads_what_another_left_behind_takes_nothing_from_it(server, kernel):
    first = Frontend(server, kernel)
    asked = first.execute(SLOW)
    first.wait(lambda message: kind(message) == "iopub:execute_input")
    first.abort()
    for name in ("", first.session):
        with Frontend(server, kernel, session=name) as client:
            client.finish(asked)
            assert text(client.of(asked)).endswith(SLOW_TEXT[-100:])


def test_a_client_that_left_nothing_behind_is_no_burden_to_the_next(server, kernel):
    with Frontend(server, kernel) as first:
        first.run("print('of the first')")
        # What it has not confirmed when it goes may come twice; it confirms while it reads.
        with pytest.raises(AssertionError, match="it did not come"):
            first.wait(lambda _: False, within_s=0.5)
    with Frontend(server, kernel) as second:
        second.run("1")
        assert all(message["parent_header"].get("session") == second.session for message in second.received)


def test_executing_right_after_a_restart_is_answered(server, api, own_kernel):
    with Frontend(server, own_kernel) as one:
        for busy in (False, True, False, True):
            hanging = one.execute("import time; time.sleep(60)") if busy else None
            if hanging:
                one.wait(
                    lambda message, hanging=hanging: (
                        kind(message) == "iopub:execute_input" and message["parent_header"]["msg_id"] == hanging
                    )
                )
            assert api.http.post(f"/api/kernels/{own_kernel}/restart", json={}).status_code == 200
            messages = one.run("'x' in globals()")
            assert statuses(messages) == ["ok"]
            if hanging:
                assert [message["content"]["ename"] for message in one.finish(hanging) if message["channel"] == "shell"] == ["KernelDied"]


def test_a_restart_is_told_to_every_client(server, api, own_kernel):
    with Frontend(server, own_kernel) as one, Frontend(server, own_kernel) as other:
        one.run("x = 1")
        model = api.call("POST", f"/api/kernels/{own_kernel}/restart", 200)
        assert model["id"] == own_kernel
        for client in (one, other):
            client.wait(lambda message: state(message) == "starting")
            client.wait(lambda message: state(message) == "idle")


def test_a_kernel_that_dies_is_announced_and_another_takes_its_place(server, own_kernel):
    """What it ran and what waited for it is answered: nobody waits for ever."""
    with Frontend(server, own_kernel) as one, Frontend(server, own_kernel) as other:
        died = one.execute("import os, signal, time; time.sleep(0.3); os.kill(os.getpid(), signal.SIGKILL)")
        one.wait(lambda message: kind(message) == "iopub:execute_input")
        waits = one.execute("'never'")
        assert one.reply(died)["content"]["ename"] == "KernelDied"
        assert one.reply(waits)["content"]["status"] == "aborted"
        for client in (one, other):
            client.wait(lambda message: state(message) == "restarting")
        assert statuses(one.run("6*7")) == ["ok"]


class Mute:
    """A frontend that answers no pings, by hand: so that nobody knows what it has read."""

    def __init__(self, server, kernel):
        address = server.url.removeprefix("http://")
        host, _, port = address.partition(":")
        self.socket, self.heard = socket.create_connection((host, int(port)), timeout=30), b""
        self.socket.sendall(
            f"GET /api/kernels/{kernel}/channels?session_id=mute HTTP/1.1\r\nHost: {address}\r\nAuthorization: token {server.token}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.read_until(b"\r\n\r\n")

    def send(self, opcode, data):
        size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + len(data).to_bytes(2, "big")
        self.socket.sendall(bytes([0x80 | opcode]) + size + bytes(4) + data)

    def ask(self, msg_type, **content):
        header = {"msg_id": msg_type, "msg_type": msg_type, "session": "mute", "username": "", "version": "5.3"}
        self.send(1, json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}).encode())

    def read_until(self, *words):
        while not all(word in self.heard for word in words):
            data = self.socket.recv(65536)
            assert data, self.heard
            self.heard += data


@pytest.mark.parametrize("code", [b"", (1000).to_bytes(2, "big")])
def test_who_connects_again_because_of_a_restart_is_not_told_of_it_twice(server, own_kernel, code):
    """JupyterLab does so on each word of a restart, and would for ever."""
    first = Mute(server, own_kernel)
    first.ask("execute_request", code="for number in range(20): print(number, flush=True)\nimport os; os._exit(1)")
    first.read_until(b'"restarting"')
    first.send(8, code)
    first.socket.close()
    second = Mute(server, own_kernel)
    second.ask("kernel_info_request")
    second.read_until(b'"kernel_info_reply"')
    assert b'"restarting"' not in second.heard
    second.socket.close()


def test_a_failure_takes_its_clients_waiting_cells_with_it_and_no_others(server, kernel, api):
    with Frontend(server, kernel) as one, Frontend(server, kernel) as other:
        fails = one.execute("import time; time.sleep(0.3); 1/0")
        one.wait(lambda message: kind(message) == "iopub:execute_input")
        waits, runs = one.execute("'never'"), other.execute("'still'")
        assert one.reply(fails)["content"]["ename"] == "ZeroDivisionError"
        assert one.reply(waits)["content"]["status"] == "aborted"
        assert other.reply(runs)["content"]["status"] == "ok"
        assert statuses(one.run("1")) == ["ok"]


def test_concurrent_starts_do_not_mix_their_environments(server, api):
    wanted = ["A", "B", None, "C", None]
    kernels: list[str | None] = [None] * len(wanted)

    def begin(place: int) -> None:
        with server.api() as own:
            kernels[place] = start(own, **({"env": {"KERNEL_WHO": wanted[place]}} if wanted[place] else {}))

    threads = [threading.Thread(target=begin, args=(place,)) for place in range(len(wanted))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for who, kernel in zip(wanted, kernels, strict=True):
        with Frontend(server, str(kernel)) as one:
            (result,) = [m for m in one.run("import os; os.environ.get('KERNEL_WHO', 'nobody')") if kind(m) == "iopub:execute_result"]
            assert result["content"]["data"]["text/plain"] == repr(who or "nobody")
        api.call("DELETE", f"/api/kernels/{kernel}", 204)


def test_bursts_of_starts_all_answer(server, api):
    failures: list[str] = []

    def live() -> None:
        with server.api() as own:
            made = start(own)
            with Frontend(server, made) as one:
                if statuses(one.run("1")) != ["ok"]:
                    failures.append(made)
            own.call("DELETE", f"/api/kernels/{made}", 204)

    for _ in range(2):
        threads = [threading.Thread(target=live) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert not [one for one in api.call("GET", "/api/kernels") if one["execution_state"] == "starting"]


def test_memory_is_flat_while_nobody_listens(server, api, own_kernel):
    """40 MB are printed with nobody attached: they wait on disk, and the last of them arrives."""

    def memory_kb() -> int:
        with open(f"/proc/{server.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    first = Frontend(server, own_kernel)
    first.run("1")
    before = memory_kb()
    asked = first.execute("import time; time.sleep(0.3)\nfor _ in range(400): print('x' * 100_000)")
    first.wait(lambda message: kind(message) == "iopub:execute_input" and message["parent_header"]["msg_id"] == asked)
    first.close()
    api.until(lambda: api.call("GET", f"/api/kernels/{own_kernel}")["execution_state"] == "idle")
    assert memory_kb() - before < 20_000
    with Frontend(server, own_kernel, session=first.session) as second:
        second.finish(asked)
        assert len(text(second.of(asked))) == 400 * 100_001


def test_nonsense_is_dropped_and_the_connection_stays(server, kernel):
    for v1, bad in ((True, [b"", b"\x01", b"\xff" * 64, "{}"]), (False, ["{", "[]", '{"header": 1}', b"\x00", b"\xff" * 64])):
        with Frontend(server, kernel, v1=v1) as one:
            for data in bad:
                one.send_raw(data)
            one.send("execute_request", {"code": "1"}, channel="nowhere")
            assert statuses(one.run("'half of a character: \ud83d'"))
            broken = one.send("execute_request", {"code": 7})
            assert one.reply(broken)["content"]["status"] == "error"
            assert one.run("1")


def test_signatures_and_keys_are_not_shown(server, kernel):
    with Frontend(server, kernel) as one:
        one.run("1")
        assert all(
            set(message) == {"channel", "header", "parent_header", "metadata", "content", "buffers", "at"} for message in one.received
        )


def test_a_message_that_is_too_large_is_left_out_and_said(server, kernel):
    with Frontend(server, kernel) as one:
        messages = one.run("from IPython.display import display\ndisplay({'text/plain': 'x' * 70_000_000}, raw=True); 'after'")
        assert "was left out: one may have 67108864" in text(messages)
        assert [m["content"]["data"]["text/plain"] for m in messages if kind(m) == "iopub:execute_result"] == ["'after'"]


def test_what_follows_a_waiting_cell_waits_behind_it_and_others_do_not(server, kernel, api):
    with Frontend(server, kernel) as one, Frontend(server, kernel) as other:
        runs = one.execute("import time; time.sleep(0.5)")
        one.wait(lambda message: kind(message) == "iopub:execute_input" and message["parent_header"]["msg_id"] == runs)
        waits = one.execute("a_name_that_is_new = 1")
        completes = one.send("complete_request", {"code": "a_name_that_is_n", "cursor_pos": 16})
        asks = other.send("kernel_info_request", {})
        assert one.reply(completes)["content"]["matches"] == ["a_name_that_is_new"]
        assert other.reply(asks)["content"]["status"] == "ok"
        assert statuses(one.of(waits)) == ["ok"]
