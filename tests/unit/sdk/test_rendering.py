import base64
import io

from kernelgate.sdk.models import Result, ResultItem

PNG = base64.b64encode(b"pixels").decode()


def done(**fields):
    return Result.from_wire({"id": "x-1", "state": "done", "success": True, "status": "ok", **fields})


def test_a_result_prints_as_a_terminal_would_have_shown_it():
    result = done(
        logs={"stdout": ["a\n", "b"], "stderr": ["careful\n"]},
        results=[{"text": "<Figure size 640x480>", "png": PNG}, {"text": "42", "is_main_result": True}],
    )
    assert str(result) == "a\nb\ncareful\n[png picture]\n42"


def test_a_failure_prints_its_traceback_or_else_its_reason():
    failed = {"success": False, "status": "error"}
    assert str(done(**failed, error={"name": "E", "value": "v", "traceback": "Traceback\nE: v"})) == "Traceback\nE: v"
    assert str(done(**failed, error={"name": "E", "value": "v"})) == "E: v"
    timeout = done(success=False, status="timeout", timeout={"after_s": 3}, error={"name": "KeyboardInterrupt", "value": ""})
    assert str(timeout) == "timed out after 3 s (interrupted)"


def test_what_must_not_go_unsaid_is_said():
    text = str(done(fresh_kernel="the old one died", truncated={"stdout_bytes": 5, "result_bytes": 9}))
    assert "(ran in a fresh kernel, without the variables of before: the old one died)" in text
    assert "(output was cut: 5 bytes of stdout, 9 bytes of results)" in text
    assert str(done(state="running", success=None, status=None)) == "(execution x-1 is running)"


def test_nothing_prints_as_nothing():
    assert str(done()) == ""


def test_an_item_prints_as_the_best_text_it_has():
    assert str(ResultItem(text="t", html="<b>")) == "t"
    assert str(ResultItem(markdown="# m", html="<b>")) == "# m"
    assert str(ResultItem(latex="$x$")) == "$x$"
    assert str(ResultItem(json={"a": 1})) == '{\n  "a": 1\n}'
    assert str(ResultItem(html="<b>")) == "[html]"
    assert str(ResultItem(text="t", pdf=PNG)) == "[pdf document]"
    assert str(ResultItem()) == "[nothing]"


def test_rich_prints_it_in_colour_and_keeps_the_codes_own():
    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
    error = {"name": "E", "value": "v", "traceback": "boom"}
    console.print(done(success=False, status="error", logs={"stdout": ["\x1b[32mgreen\x1b[0m [not markup]\n"]}, error=error))
    written = console.file.getvalue()
    assert "\x1b[32mgreen\x1b[0m [not markup]" in written
    assert "\x1b[31mboom\x1b[0m" in written


def test_one_shown_thing_is_shown_as_itself_with_all_it_has():
    item = {"text": "t", "html": "<table>", "extra": {"application/vnd.vega.v5+json": {"mark": "bar"}}}
    assert done(results=[item])._repr_mimebundle_() == {
        "text/plain": "t",
        "text/html": "<table>",
        "application/vnd.vega.v5+json": {"mark": "bar"},
    }


def test_several_things_are_put_together_as_html():
    bundle = done(
        logs={"stdout": ["1 < 2\n"]}, results=[{"png": f"{PNG[:4]}\n{PNG[4:]}"}, {"html": "<b>h</b>"}, {"svg": "<svg/>"}, {"text": "<t>"}]
    )._repr_mimebundle_()
    html = bundle["text/html"]
    assert "<pre>1 &lt; 2\n</pre>" in html
    assert f'<img src="data:image/png;base64,{PNG}">' in html
    assert "<b>h</b>" in html
    assert "<svg/>" in html
    assert "<pre>&lt;t&gt;</pre>" in html
    assert bundle["text/plain"].startswith("1 < 2\n[png picture]")


def test_only_printed_text_needs_no_html():
    assert done(logs={"stdout": ["hi\n"]})._repr_mimebundle_() == {"text/plain": "hi"}


def test_a_failure_in_a_notebook_has_no_escape_codes():
    html = done(
        success=False, status="error", error={"name": "E", "value": "<v>", "traceback": "\x1b[31mE: <v>\x1b[0m"}
    )._repr_mimebundle_()["text/html"]
    assert "E: &lt;v&gt;" in html
    assert "\x1b" not in html
