"""One story through both forms of the client: what comes out is the same."""

import asyncio
import inspect

import pytest

from kernelgate.sdk import AsyncClient, Client, errors

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def comparable(result):
    told = {name: result.raw[name] for name in ("success", "status", "execution_count", "logs", "results", "error", "text", "state")}
    return type(result).__name__, told


async def story(client, settle):
    """Every public call, awaited where `settle` awaits; what it saw."""
    seen = []
    session = await settle(client.sessions.create(labels={"both": "forms"}))
    seen.append((session.info.state, dict(session.labels)))
    heard = []
    for code in ("print('a'); 6 * 7", "1 / 0", ""):
        result = await settle(session.code.run(code, on_stdout=heard.append, on_error=lambda error: heard.append(error.name)))
        seen.append(comparable(result))
    seen.append(comparable(await settle(session.code.run("input('? ')", on_input=lambda prompt: prompt + "!"))))
    seen.append([event.type for event in await settle(session.code.stream("print('x')"))])
    started = await settle(session.executions.start("'later'", execution_id="named"))
    seen.append(comparable(await settle(session.executions.attach(started.id))))
    seen.append(comparable(await settle(session.executions.get("named"))))
    seen.append([event.type for event in await settle(session.executions.events("named"))])
    seen.append(len((await settle(session.executions.list())).executions))
    context = await settle(session.contexts.create("python", name="other"))
    seen.append((context.name, context.language))
    seen.append((await settle(session.contexts.complete("python", "heard.app"))).cursor_end)
    seen.append(await settle(context.is_complete("1 +")))
    seen.append(await settle(session.interrupt()))
    await settle(context.delete())
    # A session from the pool has warm kernels of whatever languages were used lately.
    seen.append([one.name for one in await settle(session.contexts.list()) if one.name in ("python", "other")])
    seen.append((await settle(session.update(labels={}))).labels)
    seen.append((await settle(session.refresh())).state)
    try:
        await settle(session.code.run("1", "cobol"))
    except errors.UnknownLanguage as error:
        seen.append(error.code)
    seen.append(session.id in [one.id for one in await settle(client.sessions.list())])
    seen.append([language.name for language in await settle(client.languages())])
    command = await settle(session.command.exec("echo out; echo $WORD; exit 3", env={"WORD": "x"}, artifacts=["none"]))
    seen.append((command.stdout, command.exit_code, command.status, len(command.artifacts)))
    process = await settle(session.start_background("read line; echo got $line"))
    await settle(process.write("a line\n"))
    seen.append(((await settle(process.wait())).stdout, await settle(process.is_alive())))
    files = session.file_system
    seen.append((await settle(files.write_file("d/f", "text"))).path)
    seen.append([one.name for one in await settle(files.list_directory("d"))])
    seen.append(b"".join(await settle(files.read_stream("d/f"))))
    seen.append((await settle(files.edit_file("d/f", [{"old_text": "t", "new_text": "T", "all": True}]))).diff)
    seen.append([one.name for one in await settle(session.ps("no such process"))])
    seen.append(await settle(session.env.set({"NAME": "value"})))
    seen.append(await settle(session.cd("d")))
    shell = await settle(session.start_session())
    seen.append((await settle(shell.run("cd ..; pwd"))).stdout)
    await settle(shell.close())
    terminal = await settle(session.pty.create(rows=10, cols=20, shell="/bin/sh"))
    await settle(terminal.write("exit 5\n"))
    seen.append((terminal.info.rows, await settle(terminal.wait())))
    seen.append((await settle(session.metrics())).workspace_entries)
    interactive = await settle(session.start_interactive_session("python"))
    seen.append((await settle(interactive.send("6 * 7"))).output)
    await settle(interactive.close())
    await settle(session.delete())
    return [*seen, heard]


async def awaited(value):
    return [one async for one in value] if inspect.isasyncgen(value) else await value


async def given(value):
    return list(value) if inspect.isgenerator(value) else value


def test_both_forms_tell_the_same_story(server):
    async def asynchronous():
        async with AsyncClient(server.url, server.token) as client:
            return await story(client, awaited)

    async def synchronous():
        with Client(server.url, server.token) as client:
            return await story(client, given)

    assert asyncio.run(asynchronous()) == asyncio.run(synchronous())


def test_many_runs_at_once(server):
    async def run_all():
        async with AsyncClient(server.url, server.token) as client:
            sessions = await asyncio.gather(*(client.sessions.create() for _ in range(4)))
            results = await asyncio.gather(*(session.code.run(f"import time; time.sleep(0.5); {n}") for n, session in enumerate(sessions)))
            await asyncio.gather(*(session.delete() for session in sessions))
            return [result.result for result in results]

    assert asyncio.run(run_all()) == ["0", "1", "2", "3"]


def test_a_cancelled_wait_leaves_the_code_running(server):
    async def cancel():
        async with AsyncClient(server.url, server.token) as client, await client.sessions.create() as session:
            task = asyncio.ensure_future(session.code.run("import time; time.sleep(1.5); 'done'", execution_id="kept", on_stdout=print))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return (await session.executions.attach("kept")).result

    assert asyncio.run(cancel()) == "'done'"
