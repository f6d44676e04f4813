"""The documents' code, run as it stands.

A python block runs as a program of its own, one whose first line names a file under that name; a text block behind it is what it prints. The lines of a console block that begin
with `$` are given to a shell, the others are what they print. Blocks under one heading share a directory; a program that goes on for ever runs beside the blocks behind it.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernelgate import sdk
from kernelgate.sdk import errors

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Blocks first: a comment in one looks like a heading.
_PART = re.compile(r"^```(?P<kind>\w+)\n(?P<text>(?s:.*?))^```$|^#{1,3} (?P<heading>.*)$", re.MULTILINE)


@dataclass
class Block:
    kind: str
    text: str
    expected: str | None = None


def sections(name):
    """The blocks under each heading of a document, each text block joined to the program it belongs to."""
    found = {}
    heading = ""
    for part in _PART.finditer((DOCS / name).read_text(encoding="utf-8")):
        if part["heading"]:
            heading = part["heading"]
        elif part["kind"] == "text":
            found[heading][-1].expected = part["text"]
        elif part["kind"] in {"python", "console"}:
            found.setdefault(heading, []).append(Block(part["kind"], part["text"]))
    return [pytest.param(blocks, id=f"{name}: {heading}") for heading, blocks in found.items()]


class Bench:
    """A directory with a server to be found, in which blocks run."""

    def __init__(self, directory, server):
        self.directory = directory
        self.beside = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KERNELGATE_")}
        commands = directory / "bin"
        commands.mkdir()
        command = commands / "kernelgate"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kernelgate "$@"\n')
        command.chmod(0o755)
        self.environment = {
            **kept,
            "KERNELGATE_DATA_DIR": str(server.data_dir),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{commands}{os.pathsep}{kept['PATH']}",
        }

    def program(self, text, number):
        named = re.match(r"# (\w+\.py)\n", text)
        file = self.directory / (named[1] if named else f"block_{number}.py")
        file.write_text(text, encoding="utf-8")
        if "serve_forever()" in text:
            process = subprocess.Popen([sys.executable, file], stdout=subprocess.PIPE, text=True, cwd=self.directory, env=self.environment)
            self.beside.append(process)
            return process.stdout.readline()
        return self.run([sys.executable, str(file)])

    def run(self, command):
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.directory, env=self.environment, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def close(self):
        for process in self.beside:
            process.kill()
            process.communicate()


@pytest.fixture
def bench(tmp_path, server):
    made = Bench(tmp_path, server)
    yield made
    made.close()


@pytest.mark.parametrize("blocks", [*sections("recipes.md"), *sections("sdk.md")])
def test_the_code_of_a_section_does_what_it_says(bench, blocks):
    for number, block in enumerate(blocks):
        if block.kind == "python":
            printed = bench.program(block.text, number)
            assert block.expected is None or printed == block.expected
            continue
        for step in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, expected = step.partition("\n")
            assert bench.run(["bash", "-c", command]) == expected


def test_the_reference_names_everything_that_is_public():
    text = (DOCS / "sdk.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", text))
    plain = {name for name in sdk.__all__ if not name.startswith("Async")}
    # What is reached by an attribute of a session or of the client is known by that.
    plain -= {"Sessions", "Code", "Contexts", "Executions", "Notebooks"}
    assert plain <= words
    assert set(errors.__all__) - {"Fault"} <= words
    for owner in ("Client", "Session", "Sessions", "Code", "Context", "Contexts", "Executions", "Notebooks", "Result", "ResultItem"):
        for name in vars(getattr(sdk, owner)):
            if not name.startswith("_") and name not in {"from_wire", "from_mimebundle", "raw", "mimebundle", "session_id"}:
                assert name in words, f"{owner}.{name}"
