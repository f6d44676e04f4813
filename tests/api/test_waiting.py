"""Who waits for the end of an execution gets it, also when it comes in the moment of asking."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.python, pytest.mark.bash]

ROUNDS = 80


@pytest.mark.slow
def test_waiting_never_answers_before_the_end(server, api, session) -> None:
    contexts = [
        api.call("POST", f"/v1/sessions/{session}/contexts", 201, json={"language": language})["id"]
        for language in ("python", "bash", "bash")
    ]

    def states(context: str) -> list[str]:
        # Several at once, so that the host often finds an end and a question about it in one turn of its loop.
        with server.api() as own:
            return [own.wait(session, own.start(session, "", context=context))["state"] for _ in range(ROUNDS)]

    with ThreadPoolExecutor() as pool:
        assert [set(answer) for answer in pool.map(states, contexts)] == [{"done"}] * len(contexts)
