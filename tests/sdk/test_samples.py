"""The code of seeds 000 and 001, as written but for the client's construction; TypeScript in its Python form."""

import pytest

from kernelgate.sdk import AsyncClient, Client

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_run_code(server, capsys):
    agent_bay = Client(server.url, server.token)
    result = agent_bay.create(image_id="code_latest")
    if result.success:
        code_result = result.session.code.run_code('print("Hello")', "python")
        print(code_result.result)
        if code_result.results:
            # Access rich output like images or charts
            pass
        result.session.delete()
    agent_bay.close()
    assert capsys.readouterr().out == "Hello\n\n"


async def run_code_awaited(server):
    agent_bay = AsyncClient(server.url, server.token)
    result = await agent_bay.create(image_id="code_latest")
    if result.success:
        code_result = await result.session.code.run_code('print("Hello")', "python")
        print(code_result.result)
        await result.session.delete()
    await agent_bay.aclose()


def test_run_code_awaited(server, capsys):
    import asyncio

    asyncio.run(run_code_awaited(server))
    assert capsys.readouterr().out == "Hello\n\n"


@pytest.mark.parametrize("name", ["execute", "run", "run_code"])
def test_the_aliases_take_the_documented_parameters(live, name):
    run = getattr(live.code, name)
    assert run("print('hi')", "python").result == "hi\n"
    assert run("print('hi')", "PYTHON", 60).success
    assert run(code="print('hi')", language="py", timeout_s=60).request_id


def test_an_unsupported_language_throws(live):
    with pytest.raises(Exception, match="ruby"):
        live.code.run_code("puts 1", "ruby")


def test_simple_execution(live, capsys):
    # Simple execution
    session = live
    result = session.code.run("print('Hello')", "python")
    print(result.results)
    assert capsys.readouterr().out == "[]\n"
    assert result.logs.stdout == ["Hello\n"]


def test_streaming_execution_for_long_running_code(live, capsys):
    # Streaming execution for long-running code
    session = live
    result = session.code.run(
        "import time\nfor i in range(5):\n    print(f'Progress: {i+1}/5')\n    time.sleep(1)",
        "python",
        60,
        stream_beta=True,
        on_stdout=lambda chunk: print(chunk),  # noqa: PLW0108  (as the seed has it)
    )
    assert result.success
    assert capsys.readouterr().out.split("\n\n") == [*(f"Progress: {n}/5" for n in range(1, 6)), ""]


@pytest.mark.parametrize(
    ("language", "code"),
    [
        pytest.param("python", "print('Hello')", marks=pytest.mark.python),
        pytest.param("js", "console.log('Hello')", marks=pytest.mark.javascript),
        pytest.param("node", "console.log('Hello')", marks=pytest.mark.javascript),
        pytest.param("JavaScript", "console.log('Hello')", marks=pytest.mark.javascript),
        pytest.param("R", "cat('Hello\\n')", marks=pytest.mark.r),
        pytest.param("java", 'System.out.println("Hello");', marks=pytest.mark.java),
    ],
)
def test_every_language_the_seeds_name(live, language, code):
    result = live.code.run(code, language)
    assert (result.success, result.stdout) == (True, "Hello\n")
