"""Limits on what an execution puts out: what is over is cut, head and tail stay, and `truncated` says how much."""

from __future__ import annotations

import base64

import pytest

from tests.support.stream import execute

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

MiB = 1024 * 1024


def outs(result):
    return "".join(result["logs"]["stdout"])


def test_ten_mib_of_text_come_whole_and_more_is_cut_in_the_middle(api, own):
    # 16 bytes a line.
    whole = api.run(own, "for i in range(655360): print(f'line {i:10}')")
    assert whole["truncated"] is None
    assert outs(whole) == "".join(f"line {i:10}\n" for i in range(655360))
    cut = api.run(own, "for i in range(1_000_000): print(f'line {i:10}')")
    text = outs(cut)
    assert cut["status"] == "ok"
    assert cut["truncated"] == {"stdout_bytes": 16_000_000 - 10 * MiB, "stderr_bytes": 0, "result_bytes": 0}
    note = f"\n[... {cut['truncated']['stdout_bytes']} bytes cut ...]\n"
    head, found, tail = text.partition(note)
    assert found
    assert (head[:16], tail[-16:]) == ("line          0\n", "line     999999\n")
    assert len(head) + len(tail) == 10 * MiB
    assert len(tail) >= 64 * 1024
    assert "".join(f"line {i:10}\n" for i in range(1_000_000)).startswith(head)


def test_small_limits_that_the_caller_asks_for(api, session):
    result = api.run(session, "print('a' * 1000, end=''); print('z' * 1000, end='')", max_output_bytes=100)
    assert result["truncated"] == {"stdout_bytes": 1900, "stderr_bytes": 0, "result_bytes": 0}
    assert outs(result) == "a" * 50 + "\n[... 1900 bytes cut ...]\n" + "z" * 50
    assert api.run(session, "print('a' * 100, end='')", max_output_bytes=100)["truncated"] is None
    result = api.run(session, "print('abc'); 5", max_output_bytes=0)
    assert (result["truncated"], result["text"]) == ({"stdout_bytes": 4, "stderr_bytes": 0, "result_bytes": 0}, "5")
    assert outs(result).strip() == "[... 4 bytes cut ...]"


def test_both_streams_count_and_each_says_what_it_lost(api, session):
    result = api.run(
        session, "import sys\nfor i in range(100):\n    print('o' * 99); print('e' * 99, file=sys.stderr)", max_output_bytes=1000
    )
    lost = result["truncated"]
    kept = {
        name: sum(part.count(letter) + part.count("\n") for part in result["logs"][name])
        for name, letter in (("stdout", "o"), ("stderr", "e"))
    }
    assert lost["stdout_bytes"] + lost["stderr_bytes"] == 20_000 - 1000
    assert lost["stdout_bytes"] > 0 < lost["stderr_bytes"]
    assert all(value > 0 for value in kept.values())


def test_wide_characters_are_counted_in_bytes_and_never_split(api, session):
    result = api.run(session, "print('🎈' * 1000, end='')", max_output_bytes=102)
    text = outs(result)
    head, _, tail = text.partition(f"\n[... {result['truncated']['stdout_bytes']} bytes cut ...]\n")
    assert set(head) == set(tail) == {"🎈"}
    assert 4 * (len(head) + len(tail)) + result["truncated"]["stdout_bytes"] == 4000
    assert 4 * (len(head) + len(tail)) <= 102


def test_a_stream_shows_the_cut_where_it_is(api, session):
    with execute(api, session, "print('a' * 5000, end=''); print('z' * 5000, end='')", max_output_bytes=1000) as events:
        seen = [event for event in events if event["type"] in ("stdout", "truncated", "end")]
    assert "".join(event["text"] for event in seen if event["type"] == "stdout") == "a" * 500 + "z" * 500
    place = [event["type"] for event in seen].index("truncated")
    assert {name: seen[place][name] for name in ("stream", "bytes")} == {"stream": "stdout", "bytes": 9000}
    assert "".join(event["text"] for event in seen[:place]) == "a" * 500
    assert seen[-1]["truncated"]["stdout_bytes"] == 9000


def test_results_beyond_their_limit_become_notes(api, session):
    result = api.run(session, "for n in (400, 500, 300): display({'text/plain': 'x' * n}, raw=True)\n'y'", max_result_bytes=1000)
    texts = [item["text"] for item in result["results"]]
    assert texts[0] == "x" * 400
    assert texts[1] == "x" * 500
    assert "limited to 1000 bytes" in texts[2]
    assert texts[3] == "'y'"
    assert 300 <= result["truncated"]["result_bytes"] < 400
    assert result["status"] == "ok"


def test_fifty_mib_of_results_by_default(api, own):
    code = "import base64\npicture = base64.b64encode(bytes(15 * 1024 * 1024)).decode()\nfor _ in range(3): display({'image/png': picture}, raw=True)"
    result = api.run(own, code)
    sizes = [len(item.get("png", "")) for item in result["results"]]
    assert sizes == [20 * MiB, 20 * MiB, 0]
    assert result["truncated"]["result_bytes"] == pytest.approx(20 * MiB, abs=100)
    assert base64.b64decode(result["results"][0]["png"]) == bytes(15 * MiB)
    assert "50" in result["results"][2]["text"] or str(50 * MiB) in result["results"][2]["text"]


def test_an_update_cannot_go_round_the_limit(api, session):
    result = api.run(
        session,
        "h = display('small', display_id=True)\nfor _ in range(100): h.update({'text/plain': 'x' * 1000}, raw=True)",
        max_result_bytes=5000,
    )
    assert result["truncated"]["result_bytes"] > 90_000
    assert "limited to 5000 bytes" in result["results"][0]["text"]


def test_a_flood_does_not_keep_others_waiting(api, server, own):
    other = api.create()
    flood = api.start(own, "while True: print('x' * 1000)", timeout_s=None)
    api.until(lambda: api.call("GET", f"/v1/sessions/{own}/executions/{flood}")["state"] == "running")
    assert api.run(other, "1")["text"] == "1"
    # And the flood itself can be stopped.
    api.call("POST", f"/v1/sessions/{own}/interrupt")
    result = api.wait(own, flood)
    assert result["status"] == "interrupted"
    assert api.run(own, "2")["text"] == "2"
    api.delete(other)
