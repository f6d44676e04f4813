"""The examples of seed 003 in their Python form, a session being what it calls a sandbox: exec, run, stream, interactive, background, env, cwd, input, binary, ps, kill, monitor, errors."""

from __future__ import annotations

import asyncio
import time

import pytest

from kernelgate.sdk import AsyncClient, Client
from kernelgate.sdk.commands import AbortError, ExecutionError

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


@pytest.fixture(scope="module")
def sandbox(server):
    with Client(server.url, server.token) as compute, compute.sessions.create() as made:
        made.file_system.write_file("/workspace/app/src/script.js", "console.log('js', process.argv.length - 2, process.cwd())")
        made.file_system.write_file("main.py", "print('main')")
        made.file_system.write_file("script.py", "import sys; print('script', *sys.argv[1:])")
        made.file_system.write_file(
            "long_running_script.py",
            "import sys\nprint('asks', flush=True)\nprint('got', input())\nprint('bad', file=sys.stderr)\nsys.exit(4)",
        )
        yield made


def test_quick_start(sandbox, capsys):
    # Execute a simple command
    result = sandbox.exec('python3 -c "print(\\"Hello, World!\\")"')
    print(result.stdout)  # "Hello, World!"
    assert capsys.readouterr().out == "Hello, World!\n\n"

    # Run a script file
    output = sandbox.run("main.py")
    assert output.stdout == "main\n"


def test_exec_method(sandbox):
    # Simple command execution
    result = sandbox.exec("ls -la")
    assert "main.py" in result.stdout
    # Command with arguments
    result = sandbox.exec("python3", ["-c", 'print("Hello")'])
    assert result.stdout == "Hello\n"
    # With options
    result = sandbox.exec("echo $NODE_ENV in $PWD", cwd="/workspace/app", timeout_ms=30000, env={"NODE_ENV": "development"})
    assert result.stdout == "development in /workspace/app\n"


@pytest.mark.javascript
def test_run_method(sandbox):
    # Run a Python script
    assert sandbox.run("script.py").stdout == "script\n"
    # Run with arguments
    assert sandbox.run("script.py", ["arg1", "arg2"]).stdout == "script arg1 arg2\n"
    # Run with custom interpreter
    assert sandbox.run("script.js", [], interpreter="node", cwd="/workspace/app/src").stdout == "js 0 /workspace/app/src\n"


def test_execution_result_interface(sandbox):
    result = sandbox.exec("echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    assert 0 < result.execution_time < 30
    assert result.pid > 1
    assert result.usage.cpu_time >= 0
    assert result.usage.memory_mb is None or result.usage.memory_mb > 0
    assert result.usage.disk_io >= 0


def test_returned_files(sandbox):
    result = sandbox.code.run(
        """
import matplotlib.pyplot as plt
plt.plot([1, 2, 3, 4])
plt.savefig('plot.png')
""",
        artifacts=["plot.png"],
    )
    assert result.artifacts["plot.png"].as_bytes().startswith(b"\x89PNG")


def test_stream_output(sandbox):
    # Stream stdout/stderr
    stream = sandbox.exec_stream("python3 long_running_script.py")
    # Send input to the process
    stream.write("user input\n")
    heard = {"STDOUT": "", "STDERR": ""}

    def on(name):
        return lambda chunk: heard.update({name: heard[name] + chunk})

    result = stream.wait(on_stdout=on("STDOUT"), on_stderr=on("STDERR"))
    assert heard == {"STDOUT": "asks\ngot user input\n", "STDERR": "bad\n"}
    assert result.exit_code == 4


def test_interactive_execution(sandbox):
    # Interactive Python session
    session = sandbox.start_interactive_session("python")
    # Send commands and receive responses
    session.send("x = 10")
    session.send("y = 20")
    result = session.send("print(x + y)")
    assert result.output == "30"
    # End the session
    session.close()


def test_background_processes(sandbox):
    # Start a background process
    process = sandbox.start_background("python3 -m http.server 8000")
    # Check if process is running
    assert process.is_alive()
    # Get process info
    info = process.get_info()
    assert info.pid == process.pid
    assert info.cpu_percent >= 0
    # Stop the process
    assert process.kill().status == "killed"
    assert not process.is_alive()


def test_timeout_and_cancellation(server):
    async def main():
        async with AsyncClient(server.url, server.token) as compute, await compute.sessions.create() as sandbox:
            # Set timeout
            result = await sandbox.exec("sleep 10", timeout_s=0.3)
            assert result.timed_out
            # Manual cancellation
            execution = await sandbox.start_background("sleep 100")
            asyncio.get_running_loop().call_later(0.1, lambda: tasks.append(asyncio.ensure_future(execution.kill())))
            tasks = []
            with pytest.raises(AbortError):
                await execution.wait(check=True)
            await asyncio.gather(*tasks)

    asyncio.run(main())


def test_environment_variables(sandbox):
    # Set environment variables for execution
    result = sandbox.exec("printenv", env={"NODE_ENV": "production", "API_KEY": "secret", "DEBUG": "true"})
    assert {"NODE_ENV=production", "API_KEY=secret", "DEBUG=true"} <= set(result.stdout.split("\n"))
    # Inherit from sandbox environment
    sandbox.env.set({"INHERITED": "yes"})
    result = sandbox.exec("echo $INHERITED $ADDITIONAL_VAR", env={**sandbox.get_env(), "ADDITIONAL_VAR": "value"})
    assert result.stdout == "yes value\n"


def test_working_directory(sandbox):
    # Execute in specific directory
    assert sandbox.exec("ls", cwd="/workspace/app/src").stdout == "script.js\n"
    # Change directory and execute
    try:
        assert sandbox.cd("/workspace/app") == "/workspace/app"
        assert sandbox.exec("ls").stdout == "src\n"
        assert sandbox.cd("src") == "/workspace/app/src"
        assert sandbox.exec("pwd").stdout == "/workspace/app/src\n"
        assert sandbox.exec("pwd", cwd="..").stdout == "/workspace/app\n"
        assert sandbox.start_background("pwd").wait().stdout == "/workspace/app/src\n"
        with sandbox.start_session() as session:
            assert session.exec("pwd").stdout == "/workspace/app/src\n"
        with pytest.raises(Exception, match="No such file"):
            sandbox.cd("nowhere")
        assert sandbox.exec("pwd").stdout == "/workspace/app/src\n"
    finally:
        assert sandbox.cd() == "/workspace"


def test_input_and_output_handling(sandbox):
    # Provide input to command
    result = sandbox.exec('python3 -c "print(input())"', input="Hello from input!")
    assert result.stdout == "Hello from input!\n"
    # Capture binary output
    sandbox.file_system.write_file("image.png", bytes(range(256)))
    result = sandbox.exec("cat image.png", encoding="binary")
    assert result.stdout_bytes == bytes(range(256))
    # Limit output size
    sandbox.file_system.write_file("large_file.txt", "x" * 3 * 1024 * 1024)
    result = sandbox.exec("cat large_file.txt", max_output_size=1024 * 1024)  # 1MB limit
    assert result.truncated["stdout_bytes"] == 2 * 1024 * 1024


def test_processes(sandbox, capsys):
    python = sandbox.start_background(["python3", "-c", "print('up', flush=True); input()"])
    next(iter(python.output()))
    # Get all running processes
    for proc in sandbox.ps():
        print(f"PID: {proc.pid}, Command: {proc.command}")
    assert f"PID: {python.pid}, Command: python3 -c" in capsys.readouterr().out
    # Filter processes
    python_procs = sandbox.ps(filter=lambda proc: "python3 -c" in proc.command)
    assert [one.pid for one in python_procs] == [python.pid]
    # Process Monitoring
    for stats in sandbox.monitor(python.pid, 0.1):
        print("CPU:", stats.cpu_percent)
        print("Memory:", stats.memory_mb)
        break  # stops it
    assert "CPU: " in capsys.readouterr().out
    # Kill specific process
    sandbox.kill(python.pid)  # Kill by PID
    assert python.wait().signal == "SIGTERM"
    # Kill by pattern
    other = sandbox.start_background(["sleep", "4242"])
    assert sandbox.killall("sleep 4242") == [other.pid]
    # Graceful shutdown with timeout
    deaf = sandbox.start_background("trap '' TERM; echo deaf; while :; do sleep 0.02; done")
    next(iter(deaf.output()))
    assert sandbox.kill(deaf.pid, signal="SIGTERM", timeout_s=0.1) is True
    assert deaf.wait().signal == "SIGKILL"


def test_errors(sandbox):
    with pytest.raises(ExecutionError) as caught:
        sandbox.exec("echo partly; invalid_command", check=True)
    assert (caught.value.exit_code, caught.value.stdout) == (127, "partly\n")
    assert "invalid_command" in caught.value.stderr
    # Handle timeout errors
    with pytest.raises(TimeoutError):
        sandbox.exec("sleep 60", timeout_s=0.2, check=True)


def test_graceful_error_recovery(sandbox):
    def execute_with_retry(command, max_retries=3):
        for i in range(max_retries):
            try:
                return sandbox.exec(command, check=True)
            except ExecutionError:
                if i == max_retries - 1:
                    raise
                time.sleep(0.01)
        return None

    assert execute_with_retry("echo x >> tries; [ $(wc -l < tries) -ge 3 ]").success
    with pytest.raises(ExecutionError):
        execute_with_retry("false")


def test_batch_execution(server):
    async def main():
        async with AsyncClient(server.url, server.token) as compute, await compute.sessions.create() as sandbox:
            # Execute multiple commands in parallel
            results = await asyncio.gather(sandbox.exec("ls /"), sandbox.exec("ps aux || true"), sandbox.exec("df -h"))
            assert all(result.success for result in results)
            # Sequential execution with shared context
            session = await sandbox.start_session()
            await session.exec("cd /tmp")
            await session.exec("export NODE_ENV=production")
            result = await session.exec("echo $NODE_ENV in $PWD")
            assert result.stdout == "production in /tmp\n"
            await session.close()
            # Limit concurrent executions
            semaphore = asyncio.Semaphore(3)  # Max 3 concurrent executions

            async def execute_with_limit(command):
                async with semaphore:
                    return await sandbox.exec(command)

            assert [one.stdout for one in await asyncio.gather(*(execute_with_limit(f"echo {n}") for n in range(6)))] == [
                f"{n}\n" for n in range(6)
            ]
            # Monitoring, awaited
            process = await sandbox.start_background(["sleep", "100"])
            async for stats in sandbox.monitor(process.pid, 0.1):
                assert stats.command == "sleep 100"
                break
            assert (await process.kill()).signal == "SIGTERM"

    asyncio.run(main())
