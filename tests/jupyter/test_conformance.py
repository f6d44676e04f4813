"""Every kernel through the door, by the cases of jupyter_kernel_test and its schemas of messages: conformance.py has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_kernel_test.msgspec_v5 import validate_message

from tests.jupyter import conformance
from tests.jupyter.conformance import CASES, LANGUAGES, No
from tests.jupyter.conftest import start
from tests.support.frontend import Frontend, Message, kind, state, text

pytestmark = [pytest.mark.sandbox]


@pytest.fixture(scope="module")
def frontends(server) -> Iterator[dict[str, Frontend]]:
    """A frontend for each language, as it is first asked for."""
    made: dict[str, Frontend] = {}

    class Made(dict[str, Frontend]):
        def __missing__(self, language: str) -> Frontend:
            with server.api() as api:
                self[language] = made[language] = Frontend(server, start(api, name=language))
            return made[language]

    yield Made()
    with server.api() as api:
        for frontend in made.values():
            frontend.close()
        for model in api.call("GET", "/api/kernels"):
            if model["name"] in {"python3", *LANGUAGES}:
                api.http.delete(f"/api/kernels/{model['id']}")


def ask(one: Frontend, msg_type: str, content: dict[str, Any]) -> dict[str, Any]:
    """A request's reply, valid by the schema."""
    asked = one.send(f"{msg_type}_request", content)
    reply = one.reply(asked)
    valid(reply, f"{msg_type}_reply", asked)
    answer: dict[str, Any] = reply["content"]
    return answer


def valid(message: Message, msg_type: str, parent: str) -> None:
    validate_message({**message, "msg_type": message["header"]["msg_type"], "msg_id": message["header"]["msg_id"]}, msg_type, parent)


def run(one: Frontend, code: str, status: str = "ok") -> list[Message]:
    """What a cell puts out, and last its reply; all valid by the schemas, in the order that the protocol wants."""
    asked = one.execute(code)
    messages = one.finish(asked)
    for message in messages:
        valid(message, message["header"]["msg_type"], asked)
    heard = [message for message in messages if message["channel"] == "iopub"]
    assert [state(heard[0]), state(heard[-1])] == ["busy", "idle"]
    inputs = [message for message in heard if kind(message) == "iopub:execute_input"]
    assert [message["content"]["code"] for message in inputs] == [code]
    (reply,) = [message for message in messages if message["channel"] == "shell"]
    assert reply["content"]["status"] == status
    return [message for message in heard if message not in inputs and state(message) is None] + [reply]


def kinds(messages: list[Message]) -> list[str]:
    return [message["header"]["msg_type"] for message in messages[:-1]]


def check(one: Frontend, name: str, case: Any) -> None:
    if name == "kernel_info":
        described = ask(one, "kernel_info", {})["language_info"]
        assert (described["name"], described["file_extension"]) == case
    elif name in ("stdout", "stderr"):
        messages = run(one, case)
        assert {message["content"]["name"] for message in messages[:-1]} == {name}
        assert text(messages) == {"stdout": "hello, world\n", "stderr": "oops\n"}[name]
    elif name == "error":
        assert kinds(run(one, case, "error")) == ["error"]
    elif name == "execute_result":
        (result, _) = run(one, case[0])
        assert result["header"]["msg_type"] == "execute_result"
        assert result["content"]["data"]["text/plain"] == case[1]
    elif name == "display_data":
        (shown, _) = run(one, case)
        assert shown["header"]["msg_type"] == "display_data"
        assert shown["content"]["data"]["text/html"] == "<b>h</b>"
    elif name == "clear_output":
        assert kinds(run(one, case)) == ["clear_output"]
    elif name == "complete":
        assert case[1] in ask(one, "complete", {"code": case[0], "cursor_pos": len(case[0])})["matches"]
    elif name == "is_complete":
        assert [ask(one, "is_complete", {"code": code})["status"] for code in case] == ["complete", "incomplete", "invalid"]
    elif name == "inspect":
        found = ask(one, "inspect", {"code": case, "cursor_pos": len(case), "detail_level": 0})
        assert found["found"]
        assert found["data"]["text/plain"]
    elif name.startswith("history"):
        run(one, case)
        for access in ("range",) if name == "history_range" else ("tail", "search"):
            assert ask(one, "history", history_request(access))["history"][-1][2] == case
    else:
        raise AssertionError(name)


def history_request(access: str) -> dict[str, Any]:
    return {
        "hist_access_type": access,
        "output": False,
        "raw": True,
        "session": 0,
        "start": 1,
        "stop": 1000,
        "n": 5,
        "pattern": "*",
        "unique": False,
    }


@pytest.mark.parametrize("language", [pytest.param(language, marks=getattr(pytest.mark, language)) for language in LANGUAGES])
@pytest.mark.parametrize("name", [name for name, (_, cases) in CASES.items() if not all(isinstance(case, No) for case in cases.values())])
def test_a_kernel_does_what_the_page_says(frontends, language, name):
    case = CASES[name][1][language]
    if not isinstance(case, No):
        check(frontends[language], name, case)
    elif name.startswith("history"):
        for access in ("range", "tail", "search"):
            assert ask(frontends[language], "history", history_request(access))["history"] == []


def test_the_page_is_current():
    page = conformance.PAGE.read_text()
    assert conformance.made(page) == page
