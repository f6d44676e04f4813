"""`artifacts=`: files that a run made, with its result."""

from __future__ import annotations

import asyncio

import pytest

from kernelgate.sdk import AsyncClient, errors, events

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_returned_files_of_seed_003(live, tmp_path):
    result = live.code.run("import matplotlib.pyplot as plt\nplt.plot([1, 2, 3, 4])\nplt.savefig('plot.png')", artifacts=["plot.png"])
    plot = result.artifacts["plot.png"]
    assert (len(result.artifacts), plot.path, plot.has_content) == (1, "/workspace/plot.png", True)
    assert plot.save(tmp_path / "here.png").read_bytes() == plot.as_bytes() == live.file_system.read_file(plot.path, "bytes").content
    assert plot.as_bytes().startswith(b"\x89PNG")
    assert live.code.run("1").artifacts is None


def test_streamed_and_of_commands(live):
    heard = []
    result = live.code.run("open('made.txt', 'w').write('text')", artifacts=["*.txt"], on_event=heard.append)
    assert [one.artifacts["made.txt"].as_bytes() for one in heard if isinstance(one, events.ArtifactsFound)] == [b"text"]
    assert [one.name for one in result.artifacts] == ["made.txt"]
    large = live.command.exec(
        "head -c 2000 /dev/zero > large; echo x > small", artifacts={"patterns": ["large", "small"], "max_bytes": 100}
    ).artifacts
    assert (large["small"].as_bytes(), large["large"].size, large["large"].has_content) == (b"x\n", 2000, False)
    with pytest.raises(errors.InvalidUse, match="2000 bytes"):
        large["large"].as_bytes()
    with pytest.raises(KeyError):
        large["other"]
    with pytest.raises(errors.InvalidUse, match="list"):
        live.code.run("1", artifacts="plot.png")
    with live.shell.create() as shell:
        assert shell.run("cd /tmp; touch made", artifacts=["/tmp/made"]).artifacts["/tmp/made"].size == 0


def test_awaited(server):
    async def main():
        async with AsyncClient(server.url, server.token) as client, await client.sessions.create() as session:
            started = await session.executions.start("open('a', 'w')", artifacts=["a"])
            assert [one.path for one in (await session.executions.attach(started.id)).artifacts] == ["/workspace/a"]
            process = await session.command.start("touch b", artifacts=["b"])
            assert [one.path for one in (await process.wait()).artifacts] == ["/workspace/b"]

    asyncio.run(main())
