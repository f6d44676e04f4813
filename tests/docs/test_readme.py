"""The README's commands, run as they are printed. `make serve` and `make test` themselves are what CI runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def commands(heading: str) -> list[str]:
    """The commands of the console blocks below a heading: what follows `$ `, with the lines that continue it."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = []
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        lines = block.replace("\\\n", "\\\0").splitlines()
        found += [line[2:].replace("\\\0", "\\\n") for line in lines if line.startswith("$ ")]
    return found


def test_the_two_commands_are_targets_of_the_makefile():
    targets = {command.split("#")[0].strip() for command in commands("Set up")}
    assert targets == {"make serve", "make test"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target.split()[1]}:" in makefile for target in targets)


def test_the_first_call_gives_a_chart_as_picture_and_as_data(server, tmp_path):
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    script = "\n".join(commands("A first call"))
    assert "http://127.0.0.1:8930" in script
    script = script.replace("http://127.0.0.1:8930", server.url)
    env = {name: value for name, value in os.environ.items() if not name.startswith("KERNELGATE")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**env, "KERNELGATE_DATA_DIR": str(server.data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG\r\n")
    chart = json.loads((tmp_path / "answer.json").read_text())["results"][0]["chart"]
    assert (chart["type"], chart["title"]) == ("bar", "First")
    assert [(element["label"], element["value"]) for element in chart["elements"]] == [("a", 1), ("b", 3)]


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
