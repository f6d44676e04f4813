"""One contract for six languages, through a real gateway: the table of cases.py, row by row."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from kernelgate import languages
from tests.languages.cases import EXTRAS, KEEP, KEPT, LANGUAGES, ROWS, WORDS, Cell, Expected, No
from tests.languages.conftest import Room
from tests.languages.table import PAGE, made
from tests.support.stream import execute, stream, until

#: Rows of which all is said by what must come of their cells.
PLAIN = (
    "state", "streams", "children", "main", "statement", "displays", "png", "svg", "html", "markdown", "latex", "json", "table", "unicode", "big",
    "error", "syntax", "empty",
)  # fmt: skip

#: Names of the kernels' own files, classes and libraries: no business of the user's.
INSIDES = re.compile(
    r"kernelgate|ipykernel|IPython/|interactiveshell|node:internal|engine\.js|rewrite\.js|kernel\.js|protocol\.js|hooks\.mjs"
    r"|jshell|REPL\.\$|do_it\$|session\.R|withVisible|evaluate\(|bash\.py|front\.py"
)

_tested: set[str] = set()


def rows(*names: str) -> Callable[[Any], Any]:
    """A test for each of these rows in each language that has them, marked with the language."""
    _tested.update(names)
    found = [
        pytest.param(
            name,
            language,
            cells,
            id=f"{name}-{language}" if len(names) > 1 else language,
            marks=[getattr(pytest.mark, language), pytest.mark.sandbox],
        )
        for name in names
        for language, cells in ROWS[name].columns.items()
        if not isinstance(cells, No)
    ]
    return pytest.mark.parametrize(("row", "language", "cells"), found)


def matches(expected: Any, actual: Any) -> bool:
    if isinstance(expected, re.Pattern):
        return actual is not None and bool(expected.search(actual))
    return bool(expected(actual)) if callable(expected) else expected == actual


def check_item(expected: dict[str, Any], item: dict[str, Any]) -> None:
    for name, value in expected.items():
        assert name in item, f"no {name}: {item}"
        assert matches(value, item[name]), f"{name}: {item[name]!r:.2000}"


def text(result: dict[str, Any], stream_name: str) -> str:
    return "".join(result["logs"][stream_name])


def check_error(expected: tuple[Expected, Expected] | None, result: dict[str, Any]) -> None:
    if expected is None:
        assert (result["status"], result["error"]) == ("ok", None)
        return
    assert result["error"] is not None
    assert matches(expected[0], result["error"]["name"]), result["error"]
    assert matches(expected[1], result["error"]["value"]), result["error"]


def check(cell: Cell, result: dict[str, Any]) -> None:
    check_error(cell.error, result)
    for name, expected in (("stdout", cell.stdout), ("stderr", cell.stderr)):
        assert matches(expected, text(result, name)), f"{name}: {text(result, name)!r:.2000}"
    mains = [item for item in result["results"] if item["is_main_result"]]
    shown = [item for item in result["results"] if not item["is_main_result"]]
    assert len(mains) == (cell.text is not None), result["results"]
    if mains:
        assert result["results"][-1] is mains[0]
        check_item({"text": cell.text, **cell.main}, mains[0])
    assert len(shown) == len(cell.shows), shown
    for expected, item in zip(cell.shows, shown, strict=True):
        check_item(expected, item)
    if cell.error:
        for part in cell.traceback:
            assert part in result["error"]["traceback"], result["error"]["traceback"]
        assert not INSIDES.search(result["error"]["traceback"]), result["error"]["traceback"]


def with_file(cell: Cell, path: str) -> Cell:
    return Cell(
        cell.code.replace("GATE", path),
        cell.stdout,
        cell.stderr,
        cell.text,
        cell.main,
        cell.shows,
        cell.error,
        cell.traceback,
        cell.env,
        cell.more,
    )


@rows(*PLAIN)
def test_what_comes_out(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    context = room.context(language)
    for cell in cells:
        check(cell, room.run(context, cell, max_output_bytes=64_000_000))


_EXTRA = [
    pytest.param(language, cells, id=f"{language}-{title}", marks=[getattr(pytest.mark, language), pytest.mark.sandbox])
    for language, extras in EXTRAS.items()
    for title, cells in extras.items()
]


@pytest.mark.parametrize(("language", "cells"), _EXTRA)
def test_what_one_language_has_besides(room: Room, language: str, cells: tuple[Cell, ...]) -> None:
    context = room.context(language)
    for cell in cells:
        check(cell, room.run(context, cell))


@rows("streamed")
def test_output_arrives_while_the_cell_runs(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    gate = room.file()
    with execute(room.api, room.session, cells[0].code.replace("GATE", gate), context=room.context(language)) as events:
        # The cell cannot end before the file is there, and so this came while it ran.
        seen = until(events, "stderr", text="two")
        room.touch(gate)
        seen += until(events, "end")
    assert [(event["type"], event["text"]) for event in seen if event["type"] in ("stdout", "stderr")] == [
        ("stdout", "one"),
        ("stderr", "two"),
        ("stdout", "three"),
    ]
    assert seen[-1]["status"] == "ok"


@rows("context")
def test_context_has_its_environment_and_directory(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    check(cells[0], room.run(room.other(language), cells[0]))


@rows("env")
def test_environment_of_one_execution(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    context = room.other(language)
    for cell in cells:
        check(cell, room.run(context, cell))


@rows("stdin")
def test_stdin_is_answered(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    (cell,) = cells
    with execute(room.api, room.session, cell.code, context=room.context(language), allow_stdin=True, id=f"asks-{language}") as events:
        asked = until(events, "input_request")[-1]
        assert (asked["prompt"], asked["password"]) == (cell.more["prompt"], False)
        room.api.call("POST", f"/v1/sessions/{room.session}/executions/asks-{language}/stdin", 204, json={"value": WORDS})
        assert until(events, "end")[-1]["status"] == "ok"
    check(cell, room.api.wait(room.session, f"asks-{language}"))


@rows("refused")
def test_stdin_that_is_refused_does_not_hang(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    result = room.run(room.context(language), cells[0], timeout_s=20)
    check_error(cells[0].error, result)
    assert result["execution_time"] < 5


@rows("complete")
def test_complete(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    (cell,) = cells
    answer = _ask(room, language, "complete", cell)
    assert cell.more["word"] in answer["matches"]
    assert (answer["cursor_start"], answer["cursor_end"]) == (cell.more["start"], len(cell.code))


@rows("inspect")
def test_inspect(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    (cell,) = cells
    answer = _ask(room, language, "inspect", cell)
    assert answer["found"] is True
    assert cell.more["text"] in answer["data"]["text/plain"]
    assert _ask(room, language, "inspect", Cell("no_such_name_anywhere"))["found"] is False


@rows("is_complete")
def test_is_complete(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    answers = {cell.code: _ask(room, language, "is_complete", cell)["status"] for cell in cells}
    assert answers == {cell.code: cell.more["is"] for cell in cells}


def _ask(room: Room, language: str, question: str, cell: Cell) -> dict[str, Any]:
    body = {"code": cell.code} if question == "is_complete" else {"code": cell.code, "cursor_pos": len(cell.code)}
    answer: dict[str, Any] = room.api.call("POST", f"/v1/sessions/{room.session}/contexts/{room.context(language)}/{question}", json=body)
    return answer


@rows("interrupt_busy", "interrupt_writing", "interrupt_sleep", "interrupt_wait")
def test_interrupt(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    context = room.context(language)
    check(KEEP[language], room.run(context, KEEP[language]))
    generation = room.api.call("GET", f"/v1/sessions/{room.session}/contexts/{context}")["generation"]
    for cell in cells:
        path = room.file()
        with execute(room.api, room.session, cell.code.replace("GATE", path), context=context) as events:
            execution = until(events, "stdout")[-1]["execution_id"]
            if row == "interrupt_writing":
                room.api.until(lambda path=path: room.hand(f"import os; print(os.path.exists({path!r}))") == "True\n")
            begun = time.monotonic()
            told = room.api.call("POST", f"/v1/sessions/{room.session}/contexts/{context}/interrupt")
            end = until(events, "end")[-1]
            took_s = time.monotonic() - begun
        assert told == {"interrupted": [execution]}
        assert end["status"] == "interrupted", end
        # A second, the contract says; a loaded machine gets more, but less than the gateway waits before it restarts a kernel.
        assert took_s < 4
        check(cell, room.api.wait(room.session, execution))
        check(KEPT[language], room.run(context, KEPT[language]))
        if row == "interrupt_writing":
            assert (
                room.hand(f"import os, time; size = os.path.getsize({path!r}); time.sleep(0.2); print(os.path.getsize({path!r}) - size)")
                == "0\n"
            )
        elif row == "interrupt_busy":
            # What a kernel does of its own (compiling, collecting) ends soon; a loop does not.
            room.api.until(lambda: room.busy() < 0.3, within_s=8)
    if row == "interrupt_wait":
        left = room.hand(
            "import subprocess; print(subprocess.run(['pgrep', '-fc', 'sleep 613'], capture_output=True, text=True).stdout, end='')"
        )
        # A background job of Bash's is not part of the wait for it.
        assert left == ("1\n" if language == "bash" else "0\n")
        if language == "bash":
            room.run(context, "kill %% && wait; true")
    assert room.api.call("GET", f"/v1/sessions/{room.session}/contexts/{context}")["generation"] == generation


@rows("timeout")
def test_timeout(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    context = room.context(language)
    room.run(context, KEEP[language])
    result = room.run(context, cells[0], timeout_s=0.4)
    assert (result["status"], result["success"], result["timeout"]) == ("timeout", False, {"after_s": 0.4, "action": "interrupt"})
    assert result["error"]["name"] == "ExecutionTimeout"
    after = room.run(context, KEPT[language])
    check(KEPT[language], after)
    assert after["fresh_kernel"] is None


@rows("exit", "crash")
def test_end_of_a_kernel(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    context = room.other(language)
    before = room.run(context, KEEP[language])["last_seq"]
    result = room.run(context, cells[0])
    room.forget(context)
    assert result["status"] == "kernel_died" or (row, result["status"]) == ("exit", "ok"), result
    death = room.death(context, before)
    if row == "exit":
        assert (death["reason"], death["exit_code"]) == ("exited", 3)
        assert text(result, "stdout") == "bye\n"
    else:
        assert death["reason"] == ("signalled" if "signal" in cells[0].more else "exited")
        assert cells[0].more.items() <= death.items()
        assert result["error"]["name"] == "KernelDied"
    if result["status"] == "kernel_died":
        assert result["death"] == death
    after = room.run(context, KEPT[language])
    assert after["fresh_kernel"] == death["message"]
    # The variables are gone: what asks for them fails, or finds nothing.
    assert text(after, "stdout") == "" if language != "bash" else text(after, "stdout") == "\n"
    again = room.run(context, KEEP[language])
    assert (again["status"], again["fresh_kernel"]) == ("ok", None)


@rows("late")
def test_output_after_the_end(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    context, (cell,) = room.context(language), cells
    gate = room.file()
    result = room.run(context, cell.code.replace("GATE", gate))
    check(cell, result)
    owner = result
    if cell.more["own"]:
        # Another cell in between: what comes late is still the first one's.
        assert room.run(context, KEEP[language])["status"] == "ok"
    with stream(room.api, "GET", f"/v1/sessions/{room.session}/events?after={result['last_seq']}") as events:
        room.touch(gate)
        late = until(events, "stdout", text="late\n")[-1]
    assert (late["execution_id"], late["late"]) == (owner["id"], True)
    assert text(room.api.wait(room.session, owner["id"]), "stdout") == "now\nlate\n"


@rows("apart")
def test_contexts_share_nothing(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    check(cells[0], room.run(room.context(language), cells[0]))
    check(cells[1], room.run(room.other(language), cells[1]))


@rows("at_once")
def test_contexts_run_at_once(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    one, two = (room.file().rpartition("/")[2] for _ in range(2))
    (cell,) = cells
    ids = [
        room.api.start(room.session, cell.code.replace("MINE", mine).replace("THEIRS", theirs), context=context, timeout_s=30)
        for context, mine, theirs in ((room.context(language), one, two), (room.other(language), two, one))
    ]
    for execution in ids:
        check(cell, room.api.wait(room.session, execution))


@rows("handover")
def test_files_are_handed_over(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    there, back = room.file(), room.file()
    (cell,) = cells
    room.hand(f"open({there!r}, 'w').write({WORDS!r} + '\\n'); None")
    check(cell, room.run(room.context(language), cell.code.replace("GATE", there).replace("MINE", back)))
    assert room.hand(f"print(open({back!r}).read().rstrip())") == f"back {WORDS}\n"


@rows("alias")
def test_every_name_in_any_case(room: Room, row: str, language: str, cells: tuple[Cell, ...]) -> None:
    room.context(language)
    known = languages.load()[language]
    assert known.aliases
    for alias in (known.name, *known.aliases):
        for word in (alias, alias.upper(), f" {alias.title()} "):
            result = room.api.run(room.session, "", language=word)
            assert (result["status"], result["language"], result["context_id"]) == ("ok", language, language)


@pytest.mark.sandbox
def test_a_language_that_is_not_supported(room: Room) -> None:
    response = room.api.http.post(f"/v1/sessions/{room.session}/executions", json={"code": "1", "language": "cobol"})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "unsupported_language"
    assert "cobol" in error["message"]
    assert all(name in error["message"] for name in languages.load())


def test_the_table_is_complete() -> None:
    for name, row in ROWS.items():
        assert row.columns.keys() == LANGUAGES.keys(), name
    assert _tested == ROWS.keys()


def test_the_page_says_what_is_tested() -> None:
    page = PAGE.read_text()
    assert made(page) == page, "python tests/languages/table.py writes it"
    assert all(f"<!-- made: {name} -->" in page for name in ("table", *LANGUAGES))
