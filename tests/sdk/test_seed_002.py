"""Every example of seed 002, as written but for the client's construction, and what it prints there (versions aside)."""

from __future__ import annotations

import re
import time

import pytest

from kernelgate.sdk import Client

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


@pytest.fixture(scope="module")
def agent_bay(server):
    with Client(server.url, server.token) as made:
        yield made


@pytest.fixture(scope="module")
def session(agent_bay):
    result = agent_bay.create(image_id="code_latest")
    yield result.session
    agent_bay.delete(result.session)


def squeezed(text):
    """Without what a formatter chooses: Node breaks long arrays into lines, the seed's author joined them."""
    return re.sub(r"\s+", "", text)


def test_quick_start(agent_bay, capsys):
    result = agent_bay.create(image_id="code_latest")
    session = result.session

    output = session.code.run_code('print("Hello from CodeSpace!")', "python")
    print(output.result)

    agent_bay.delete(session)
    assert capsys.readouterr().out == "Hello from CodeSpace!\n\n"


def test_basic_execution(session, capsys):
    code = """
import os
import sys
print(f"Python version: {sys.version}")
print(f"Current directory: {os.getcwd()}")
print("Hello from AgentBay!")
"""

    result = session.code.run_code(code, "python")
    if result.success:
        print("Output:", result.result)
    else:
        print("Execution failed:", result.error_message)
    version, directory, hello, _, _ = capsys.readouterr().out.split("\n")
    assert re.match(r"Output: Python version: 3\.\d+\.\d+", version)
    assert (directory, hello) == ("Current directory: /workspace", "Hello from AgentBay!")


def test_calculations(session, capsys):
    code = """
import math

# Calculate factorial
def factorial(n):
    return math.factorial(n)

# Fibonacci sequence
def fibonacci(n):
    if n <= 1:
        return n
    return fibonacci(n-1) + fibonacci(n-2)

print(f"Factorial of 10: {factorial(10)}")
print(f"10th Fibonacci number: {fibonacci(10)}")

# List comprehension
squares = [x**2 for x in range(1, 11)]
print(f"Squares: {squares}")
"""

    result = session.code.run_code(code, "python")
    if result.success:
        print("Output:", result.result)
    assert capsys.readouterr().out == (
        "Output: Factorial of 10: 3628800\n10th Fibonacci number: 55\nSquares: [1, 4, 9, 16, 25, 36, 49, 64, 81, 100]\n\n"
    )


@pytest.mark.javascript
def test_basic_nodejs_execution(session, capsys):
    js_code = """
const fs = require('fs');
const path = require('path');

console.log('Node.js version:', process.version);
console.log('Current directory:', process.cwd());

// Create a simple file
fs.writeFileSync('/tmp/hello.txt', 'Hello from Node.js!');
console.log('File created successfully');
"""

    result = session.code.run_code(js_code, "javascript")
    if result.success:
        print("Output:", result.result)
    else:
        print("Execution failed:", result.error_message)
    version, directory, created, _, _ = capsys.readouterr().out.split("\n")
    assert re.fullmatch(r"Output: Node\.js version: v\d+\.\d+\.\d+", version)
    assert (directory, created) == ("Current directory: /workspace", "File created successfully")
    assert session.file_system.read_file("/tmp/hello.txt").content == "Hello from Node.js!"


@pytest.mark.javascript
def test_data_processing(session, capsys):
    js_code = """
// Array operations
const numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

const sum = numbers.reduce((a, b) => a + b, 0);
const avg = sum / numbers.length;
const squares = numbers.map(x => x * x);

console.log('Numbers:', numbers);
console.log('Sum:', sum);
console.log('Average:', avg);
console.log('Squares:', squares);

// Object operations
const data = {
    name: 'AgentBay',
    version: '1.0',
    features: ['Python', 'JavaScript', 'File I/O']
};

console.log('\\nData:', JSON.stringify(data, null, 2));
"""

    result = session.code.run_code(js_code, "javascript")
    if result.success:
        print("Output:", result.result)
    printed = capsys.readouterr().out
    assert squeezed(printed) == squeezed("""Output: Numbers: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
        Sum: 55
        Average: 5.5
        Squares: [1, 4, 9, 16, 25, 36, 49, 64, 81, 100]

        Data: {"name": "AgentBay", "version": "1.0", "features": ["Python", "JavaScript", "File I/O"]}""")
    assert '\n\nData: {\n  "name": "AgentBay",\n  "version": "1.0",\n  "features": [\n    "Python",\n' in printed


def test_write_and_run_a_script(session, capsys):
    script_content = """
import json
import sys

data = {
    'message': 'Hello from uploaded script',
    'args': sys.argv[1:] if len(sys.argv) > 1 else []
}

with open('/tmp/output.json', 'w') as f:
    json.dump(data, f, indent=2)

print(json.dumps(data, indent=2))
"""

    # Write the script
    write_result = session.file_system.write_file("/tmp/script.py", script_content)
    assert write_result.success

    # Run the script with arguments
    exec_result = session.command.execute_command("python3 /tmp/script.py arg1 arg2")
    if exec_result.success:
        print("Script output:", exec_result.output)

    # Read the generated output file
    output_result = session.file_system.read_file("/tmp/output.json")
    if output_result.success:
        print("Output file content:", output_result.content)
    data = '{\n  "message": "Hello from uploaded script",\n  "args": [\n    "arg1",\n    "arg2"\n  ]\n}'
    assert capsys.readouterr().out == f"Script output: {data}\n\nOutput file content: {data}\n"


def test_multi_file_projects(session, capsys):
    # Create the project directory
    session.file_system.create_directory("/workspace/myproject")

    main_py = """
from utils import greet

if __name__ == "__main__":
    print(greet("AgentBay"))
"""

    utils_py = """
def greet(name):
    return f"Hello, {name}!"
"""

    # Write source files
    session.file_system.write_file("/workspace/myproject/main.py", main_py)
    session.file_system.write_file("/workspace/myproject/utils.py", utils_py)

    # Run the project
    result = session.command.execute_command("cd /workspace/myproject && python3 main.py")
    if result.success:
        print("Project output:", result.output)
    assert capsys.readouterr().out == "Project output: Hello, AgentBay!\n\n"


def test_timeout_behavior(session):
    code = "'in time'"
    # The default timeout is 60 seconds
    result = session.code.run_code(code, "python")
    assert result.success

    # Specify a custom timeout of up to 60 seconds
    result = session.code.run_code(code, "python", timeout_s=60)
    assert result.result == "'in time'"
    started = time.monotonic()
    assert not session.code.run_code("import time; time.sleep(50)", "python", timeout_s=0.2).success
    assert time.monotonic() - started < 40


def test_clean_up_sessions(agent_bay, capsys):
    result = agent_bay.create(image_id="code_latest")
    session = result.session

    try:
        output = session.code.run_code('print("Hello!")', "python")
        print(output.result)
    finally:
        agent_bay.delete(session)
    assert capsys.readouterr().out == "Hello!\n\n"
    assert session.id not in [one.id for one in agent_bay.sessions.list(state="running")]
