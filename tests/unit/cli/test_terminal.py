import io

import pytest

from kernelgate.cli._pictures import Pictures
from kernelgate.cli._terminal import EventPrinter, Screen, duration
from kernelgate.sdk import events


class Streams:
    """Two streams, and both as one terminal would show them."""

    def __init__(self, tmp_path):
        self.both = []
        self.out, self.err = self._stream("out"), self._stream("err")
        self.screen = Screen(self.out, self.err)
        self.printer = EventPrinter(self.screen, Pictures(tmp_path))

    def _stream(self, name):
        streams = self

        class Recording(io.StringIO):
            def write(self, text):
                streams.both.append((name, text))
                return super().write(text)

        return Recording()

    def show(self, *raws):
        for seq, raw in enumerate(raws, 1):
            self.printer.show(events.from_wire({"seq": seq, "execution_id": "x", **raw}))
        return self.out.getvalue(), self.err.getvalue()


@pytest.fixture
def streams(tmp_path):
    return Streams(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7322, "2 h 2 min")],
)
def test_times_for_people(seconds, text):
    assert duration(seconds) == text


def test_text_passes_as_it_is(streams):
    assert streams.show({"type": "stdout", "text": "a\rb"}, {"type": "stderr", "text": "w"}) == ("a\rb", "w")


def test_the_last_text_gets_no_newline_that_the_code_did_not_write(streams):
    out, _ = streams.show({"type": "stdout", "text": "x"}, {"type": "end", "status": "ok", "success": True})
    assert out == "x"


def test_a_value_begins_a_line_of_its_own(streams):
    out, _ = streams.show({"type": "stdout", "text": "x"}, {"type": "result", "result": {"text": "42", "is_main_result": True}})
    assert out == "x\n42\n"


def test_a_picture_is_saved_and_its_file_named(streams, tmp_path):
    out, err = streams.show({"type": "result", "result": {"png": "cGl4ZWxz", "text": "<Figure>"}})
    assert out == ""
    assert err == f"[saved {tmp_path / 'picture-1.png'}]\n"
    assert (tmp_path / "picture-1.png").read_bytes() == b"pixels"


def test_an_error_is_its_traceback_on_standard_error(streams):
    error = {"name": "E", "value": "v", "traceback": "Traceback\nE: v"}
    out, err = streams.show({"type": "error", "error": error}, {"type": "end", "status": "error", "success": False})
    assert (out, err) == ("", "Traceback\nE: v\n")
    assert streams.printer.ended.status == "error"


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"status": "timeout", "timeout": {"after_s": 5, "action": "interrupt"}}, "[out of time after 5.0 s: it was interrupted]"),
        ({"status": "timeout", "timeout": {"after_s": 5, "action": "restart"}}, "its kernel was restarted, variables are gone"),
        (
            {"status": "kernel_died", "death": {"reason": "out_of_memory", "message": "used more than 1 GiB"}},
            "[the kernel died: used more than 1 GiB]",
        ),
        ({"status": "cancelled"}, "[cancelled]"),
    ],
)
def test_a_bad_end_is_told(streams, end, said):
    _, err = streams.show({"type": "end", "success": False, **end})
    assert said in err


def test_what_must_not_go_unsaid_is_said(streams):
    _, err = streams.show(
        {"type": "started", "execution_count": 1, "fresh_kernel": "the old one died"},
        {"type": "gap", "reason": "the host was restarted"},
        {"type": "end", "status": "ok", "success": True, "truncated": {"stdout_bytes": 3, "result_bytes": 4}},
    )
    assert "[fresh kernel, without the variables of before: the old one died]" in err
    assert "[output may be missing here: the host was restarted]" in err
    assert "[output was cut: 3 bytes of text, 4 of results]" in err


def test_an_event_of_a_newer_server_is_passed_over(streams):
    assert streams.show({"type": "hologram"}) == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_silence_is_told_and_taken_back_before_anything_else(monkeypatch):
    monkeypatch.setattr("kernelgate.cli._terminal._QUIET_S", 0.0)
    monkeypatch.setattr("kernelgate.cli._terminal._TICK_S", 0.01)
    err = Terminal()
    screen = Screen(io.StringIO(), err)
    screen.begin("running")
    try:
        for _ in range(500):
            if "running 0.0 s" in err.getvalue():
                break
            screen._stop.wait(0.01)
        assert err.getvalue().startswith("\r\x1b[2K\x1b[2mrunning 0.0 s")
        screen.out("x")
        shown = err.getvalue()
        assert shown.endswith("\r\x1b[2K")
        # On a line that the code has begun there is no place for it.
        screen._stop.wait(0.05)
        assert err.getvalue() == shown
    finally:
        screen.end()
    screen.finish_line()
    assert screen._out.getvalue() == "x\n"


def test_into_a_pipe_no_silence_is_told():
    err = io.StringIO()
    screen = Screen(io.StringIO(), err)
    screen.begin("running")
    assert screen._ticker is None
    screen.end()
    assert err.getvalue() == ""
