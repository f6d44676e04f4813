"""`session.command`, `.processes`, `.shell` and `.env`."""

from __future__ import annotations

import asyncio
import threading

import pytest

from kernelgate.sdk import AsyncClient, errors
from kernelgate.sdk.commands import AbortError, CommandTimeout, ExecutionError

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


@pytest.fixture(scope="module")
def sandbox(server):
    from kernelgate.sdk import Client

    with Client(server.url, server.token) as client, client.sessions.create() as made:
        yield made


def write(sandbox, path, text):
    assert sandbox.command.exec(f"mkdir -p $(dirname {path}) && cat > {path}", stdin=text).success


def test_exec(sandbox):
    assert sandbox.command.exec("python3 -c \"print('Hello, World!')\"").stdout == "Hello, World!\n"
    result = sandbox.command.exec("python3", ["-c", 'print("Hello")'])
    assert (result.stdout, result.exit_code, result.error_message) == ("Hello\n", 0, "")
    result = sandbox.command.exec("echo $NODE_ENV; pwd", cwd="/tmp", timeout_ms=30000, envs={"NODE_ENV": "development"})
    assert result.stdout == "development\n/tmp\n"
    assert result.pid > 1
    assert 0 < result.execution_time < 10
    assert result.usage.cpu_time >= 0
    assert result.usage.disk_io >= 0
    assert str(result) == result.output
    with pytest.raises(errors.InvalidUse, match="NUMBER"):
        sandbox.command.exec("true", env={"NUMBER": 1})


def test_run(sandbox):
    write(sandbox, "/workspace/script.py", "import sys; print('ran', *sys.argv[1:])")
    assert sandbox.command.run("script.py").stdout == "ran\n"
    assert sandbox.command.run("script.py", ["arg1", "arg2"]).stdout == "ran arg1 arg2\n"
    write(sandbox, "/workspace/sub/script.txt", "echo by bash in $PWD")
    assert sandbox.command.run("script.txt", [], interpreter="bash", cwd="/workspace/sub").stdout == "by bash in /workspace/sub\n"
    assert sandbox.command.run("echo plain").stdout == "plain\n"


def test_stream_and_input(sandbox):
    stream = sandbox.command.exec_stream('read line; echo "got $line"; echo problem >&2; exit 4')
    stream.write("user input\n")
    heard = []
    result = stream.wait(on_stdout=lambda text: heard.append(("STDOUT", text)), on_stderr=lambda text: heard.append(("STDERR", text)))
    assert sorted(heard) == [("STDERR", "problem\n"), ("STDOUT", "got user input\n")]
    assert result.exit_code == 4
    heard = []
    sandbox.command.exec("echo one; sleep 0.05; echo two", on_stdout=heard.append)
    assert "".join(heard) == "one\ntwo\n"


def test_interactive(sandbox):
    session = sandbox.start_interactive_session("python")
    session.send("x = 10")
    session.send("y = 20")
    result = session.send("print(x + y)")
    assert result.output == "30"
    assert session.send("x * y").output == "200"
    session.close()
    assert session.id not in [context.id for context in sandbox.contexts.list()]


def test_background(sandbox):
    process = sandbox.command.start_background("python3 -m http.server 8000")
    assert process.is_alive()
    info = process.get_info()
    assert info.pid == process.pid
    assert info.cpu_percent >= 0
    ended = process.kill()
    assert (ended.status, process.is_alive()) == ("killed", False)
    assert sandbox.command.get(process.id).result.status == "killed"
    with pytest.raises(errors.NotFound):
        process.info()


def test_timeout_and_cancellation(sandbox):
    result = sandbox.command.exec("echo started; sleep 10", timeout_s=0.3)
    assert (result.timed_out, result.success, result.stdout) == (True, False, "started\n")
    with pytest.raises(TimeoutError) as caught:
        sandbox.command.exec("sleep 60", timeout_s=0.2, check=True)
    assert isinstance(caught.value, CommandTimeout)
    process = sandbox.command.start("sleep 60")
    killing = threading.Timer(0.1, process.kill)
    killing.start()
    with pytest.raises(AbortError):
        process.wait(check=True)
    killing.join()


def test_environment(sandbox):
    result = sandbox.command.exec("printenv", env={"NODE_ENV": "production", "API_KEY": "secret", "DEBUG": "true"})
    assert {"NODE_ENV=production", "API_KEY=secret", "DEBUG=true"} <= set(result.stdout.splitlines())
    sandbox.env.set({"SHARED": "yes"})
    assert sandbox.env.get() == {"SHARED": "yes"}
    assert sandbox.env.get(["SHARED", "OTHER"]) == {"SHARED": "yes"}
    result = sandbox.command.exec("echo $SHARED $ADDITIONAL_VAR", env={**sandbox.env.get(), "ADDITIONAL_VAR": "value"})
    assert result.stdout == "yes value\n"
    assert sandbox.code.run("import os; os.environ['SHARED']").text == "'yes'"
    assert sandbox.env.unset("SHARED") == {}


def test_working_directory_and_shell(sandbox):
    sandbox.command.exec("mkdir -p /workspace/app/src && touch /workspace/app/src/file")
    assert sandbox.command.exec("ls", cwd="/workspace/app/src").stdout == "file\n"
    with sandbox.shell.create() as session:
        session.exec("cd /workspace/app")
        session.exec("export NODE_ENV=production")
        heard = []
        result = session.exec("echo $PWD $NODE_ENV", on_stdout=heard.append)
        assert (result.stdout, heard) == ("/workspace/app production\n", [result.stdout])
        with pytest.raises(ExecutionError):
            session.run("cd /nowhere", check=True)
    assert sandbox.shell.list() == []


def test_input_and_output(sandbox):
    assert sandbox.command.exec('python3 -c "print(input())"', stdin="Hello from input!").stdout == "Hello from input!\n"
    everything = bytes(range(256))
    result = sandbox.command.exec("cat", stdin=everything, encoding="binary")
    assert result.stdout_bytes == everything
    limited = sandbox.command.exec("head -c 3000000 /dev/zero | tr '\\0' x", max_output_bytes=1024 * 1024)
    assert len(limited.stdout) < 1024 * 1024 + 100
    assert limited.truncated["stdout_bytes"] == 3_000_000 - 1024 * 1024


def test_processes(sandbox):
    sleeper = sandbox.command.start(["sleep", "1234"])
    others = [sandbox.command.start(["sleep", "4321"]) for _ in range(2)]
    commands = {process.pid: process.command for process in sandbox.processes.ps()}
    assert commands[sleeper.pid] == "sleep 1234"
    assert [one.pid for one in sandbox.processes.ps(filter=lambda process: "sleep 1234" in process.command)] == [sleeper.pid]
    assert sandbox.processes.kill(sleeper.pid) is False
    assert sleeper.wait().signal == "SIGTERM"
    assert sandbox.processes.killall("sleep 4321") == [other.pid for other in others]
    deaf = sandbox.command.start("trap '' TERM; echo deaf; while :; do sleep 0.02; done")
    next(iter(deaf.output()))
    assert sandbox.processes.kill(deaf.pid, signal="SIGTERM", timeout_s=0.1) is True
    assert deaf.wait().signal == "SIGKILL"
    with pytest.raises(errors.NotFound):
        sandbox.processes.kill(sleeper.pid)


def test_monitor(sandbox):
    busy = sandbox.command.start("while :; do :; done")
    seen = []
    for stats in sandbox.processes.monitor(busy.pid, interval_s=0.1):
        seen.append((stats.cpu_percent, stats.memory_mb))
        if len(seen) == 3:
            break
    assert max(cpu for cpu, _ in seen) > 10
    busy.kill()


def test_errors(sandbox):
    with pytest.raises(ExecutionError) as caught:
        sandbox.command.exec("echo partly; invalid_command", check=True)
    assert (caught.value.exit_code, caught.value.stdout) == (127, "partly\n")
    assert "invalid_command" in caught.value.stderr
    assert not isinstance(caught.value, TimeoutError)
    for command in ("invalid_command", "also_invalid", "echo third"):
        result = sandbox.command.exec(command)
        if result.success:
            break
    assert result.stdout == "third\n"
    assert sandbox.command.exec("invalid_command").error_message.endswith("command not found")


def test_awaited_and_beside_each_other(server):
    async def main():
        async with AsyncClient(server.url, server.token) as client:
            created = await client.create()
            session = created.session
            results = await asyncio.gather(
                *(session.command.exec(command) for command in ("echo a; sleep 0.3", "echo b; sleep 0.3", "df -h /"))
            )
            assert [result.stdout[:2] for result in results] == ["a\n", "b\n", "Fi"]
            process = await session.command.start("read x; echo $x")
            await process.write("hello\n", eof=True)
            assert [piece async for piece in process.output()] == [("stdout", "hello\n")]
            assert (await process.wait(check=True)).success
            async with await session.shell.create() as shell:
                await shell.run("cd /tmp")
                assert (await shell.run("pwd")).stdout == "/tmp\n"
            await session.env.set({"A": "1"})
            assert await session.env.get() == {"A": "1"}
            await session.delete()

    asyncio.run(main())
