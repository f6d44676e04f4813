import base64
import json
from datetime import UTC, datetime

import pytest

from kernelgate.sdk import errors, models
from kernelgate.sdk.models import Language, Result, ResultItem, SessionInfo

PNG = base64.b64encode(b"\x89PNG pixels").decode()

RAW = {
    "id": "x-1",
    "request_id": "r-1",
    "session_id": "s-1",
    "context_id": "python",
    "language": "python",
    "state": "done",
    "queue_position": None,
    "success": True,
    "status": "ok",
    "execution_count": 3,
    "execution_time": 0.25,
    "logs": {"stdout": ["a\n", "b\n"], "stderr": ["w\n"]},
    "results": [{"png": PNG, "text": "<Figure>", "metadata": {}}, {"text": "42", "is_main_result": True}],
    "error": None,
    "text": "42",
    "truncated": {"stdout_bytes": 7, "stderr_bytes": 0, "result_bytes": 0},
    "timeout": None,
    "death": None,
    "fresh_kernel": None,
    "created_at": "2026-01-02T03:04:05.5Z",
    "started_at": "2026-01-02T03:04:05.6Z",
    "ended_at": None,
    "last_seq": 9,
}


def failed(**fields):
    return Result.from_wire({"id": "x", "state": "done", "success": False, "status": "error", **fields})


def test_a_result_has_the_fields_of_the_wire():
    result = Result.from_wire(RAW)
    assert (result.id, result.request_id, result.session_id) == ("x-1", "r-1", "s-1")
    assert (result.success, result.status, result.state) == (True, "ok", "done")
    assert (result.execution_count, result.execution_time) == (3, 0.25)
    assert result.logs.stdout == ["a\n", "b\n"]
    assert (result.stdout, result.stderr) == ("a\nb\n", "w\n")
    assert result.truncated is not None
    assert result.truncated.stdout_bytes == 7
    assert result.created_at == datetime(2026, 1, 2, 3, 4, 5, 500000, UTC)
    assert result.ended_at is None
    assert result.to_dict() is RAW


def test_result_is_the_text_and_never_none():
    assert Result.from_wire(RAW).result == "42"
    assert Result.from_wire({"id": "x", "text": None}).result == ""


def test_the_main_result_is_the_last_expressions():
    main = Result.from_wire(RAW).main_result
    assert main is not None
    assert main.text == "42"
    assert Result.from_wire({"id": "x"}).main_result is None


def test_what_a_newer_server_adds_or_an_older_one_lacks_does_no_harm():
    assert Result.from_wire({"id": "x", "new_field": 1}).raw["new_field"] == 1
    assert Result.from_wire({"id": "x"}).logs.stdout == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"error": {"name": "ValueError", "value": "bad"}}, "ValueError: bad"),
        ({"error": {"name": "KeyboardInterrupt", "value": ""}}, "KeyboardInterrupt"),
        ({"status": "timeout", "timeout": {"after_s": 60, "action": "interrupt"}}, "timed out after 60 s (interrupted)"),
        ({"status": "timeout", "timeout": {"after_s": 0.5, "action": "restart"}}, "timed out after 0.5 s (kernel restarted)"),
        ({"status": "kernel_died", "death": {"reason": "out_of_memory", "message": "out of memory"}}, "out of memory"),
        ({"status": "kernel_died", "death": {"reason": "exited"}}, "the kernel died: exited"),
        ({"status": "cancelled"}, "the execution ended as cancelled"),
    ],
)
def test_the_error_message_says_why_in_one_line(fields, message):
    assert failed(**fields).error_message == message


def test_success_has_no_error_message_and_does_not_raise():
    result = Result.from_wire(RAW)
    assert result.error_message == ""
    assert result.raise_for_error() is result


def test_a_result_that_has_not_ended_cannot_be_judged():
    with pytest.raises(errors.InvalidUse, match="has not ended"):
        Result.from_wire({"id": "x", "state": "running"}).raise_for_error()


def test_repr_is_short_and_says_how_it_ended():
    assert repr(Result.from_wire(RAW)) == "<Result ok '42', results=2 id='x-1'>"
    assert "ValueError: bad" in repr(failed(error={"name": "ValueError", "value": "bad"}))
    assert len(repr(Result.from_wire({"id": "x", "success": True, "text": "y" * 5000}))) < 120


def test_formats_lists_what_is_there():
    item = ResultItem.from_wire({"text": "a", "png": PNG, "chart": {"type": "line"}, "extra": {"application/geo+json": {}}})
    assert item.formats() == ["text", "png", "chart", "application/geo+json"]
    assert ResultItem().formats() == []


def test_a_value_is_found_by_name_and_by_mime_type():
    item = ResultItem.from_wire({"png": PNG, "extra": {"image/gif": "R0lG"}, "json": {"a": [1]}})
    assert item["png"] == item["image/png"] == PNG
    assert item["image/gif"] == "R0lG"
    assert item.as_bytes("png") == b"\x89PNG pixels"
    assert item.as_bytes("image/gif") == b"GIF"
    assert json.loads(item.as_bytes("json")) == {"a": [1]}
    for name in ("html", "text/html", "nothing/such"):
        with pytest.raises(KeyError):
            item[name]


def test_a_picture_is_the_best_there_is():
    assert ResultItem(png=PNG, svg="<svg/>").picture() == ("png", b"\x89PNG pixels")
    assert ResultItem(svg="<svg/>").picture() == ("svg", b"<svg/>")
    assert ResultItem(text="x").picture() is None


def test_save_takes_the_format_from_the_suffix(tmp_path):
    item = ResultItem(png=PNG, jpeg=base64.b64encode(b"jfif").decode(), html="<b>é</b>")
    assert item.save(tmp_path / "a.png").read_bytes() == b"\x89PNG pixels"
    assert item.save(tmp_path / "a.JPG").read_bytes() == b"jfif"
    assert item.save(tmp_path / "a.html").read_text(encoding="utf-8") == "<b>é</b>"
    assert item.save(tmp_path / "plot", "png").read_bytes() == b"\x89PNG pixels"
    with pytest.raises(errors.InvalidUse, match="it has html, png, jpeg"):
        item.save(tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()


def test_a_mime_bundle_has_what_a_notebook_shows():
    item = ResultItem(
        text="t", png=PNG, chart={"type": "bar"}, extra={"application/vnd.vega.v5+json": {}}, metadata={"image/png": {"width": 3}}
    )
    assert item._repr_mimebundle_() == (
        {"text/plain": "t", "image/png": PNG, "application/vnd.vega.v5+json": {}},
        {"image/png": {"width": 3}},
    )
    again = ResultItem.from_mimebundle(*item._repr_mimebundle_())
    assert (again.text, again.png, again.extra) == ("t", PNG, {"application/vnd.vega.v5+json": {}})


def test_an_item_of_json_null_is_as_good_as_none():
    assert ResultItem.from_wire({"json": None}).formats() == []
    assert ResultItem.from_wire({"json": 0}).formats() == ["json"]


def test_a_session_and_a_language_have_the_fields_of_the_wire():
    session = SessionInfo.from_wire(
        {
            "id": "s",
            "state": "closed",
            "reason": "idle",
            "labels": {"a": "b"},
            "contexts": [{"id": "r", "language": "r", "state": "dead", "death": {"reason": "signalled", "signal": 9}}],
        }
    )
    assert (session.state, session.reason, session.labels) == ("closed", "idle", {"a": "b"})
    assert session.contexts[0].death == models.Death(reason="signalled", signal=9)
    language = Language.from_wire({"name": "r", "state": "not_installed", "missing": ["Rscript"], "install": "do it"})
    assert (language.is_ready, language.display_name, language.install) == (False, "r", "do it")
