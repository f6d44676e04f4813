"""What the SDK promises: its names, that both of its forms are the same, and that it is light."""

import inspect
import re
import subprocess
import sys

import pytest

from kernelgate import sdk
from tests.tools import unasync

NAMES = set(
    """
    UNSET AbortError Artifact Artifacts AsyncClient AsyncCode AsyncCommands AsyncContext AsyncContexts AsyncCreated AsyncEnvironment AsyncExecutions
    AsyncFileSystem AsyncInteractive AsyncNotebooks AsyncProcess AsyncProcesses AsyncScreen AsyncSession AsyncSessions AsyncShell
    AsyncShells AsyncTerminal AsyncTerminals CellProgress Client Code CodeFailed CommandResult CommandTimeout Commands Completion
    Context ContextInfo Contexts Created Death Environment ExecutionError Executions FileEdit FileEvent FileInfo FileMatch
    FileSystem FileText Inspection Interactive KernelgateError Language Logs Metrics Notebooks Pool Process ProcessInfo Processes Result
    ResultItem ResultPage Retry Sample Screen Session SessionInfo SessionPage Sessions Shell Shells Terminal TerminalInfo Terminals
    TimedOut Timeout Truncated Usage errors events
    """.split()  # noqa: SIM905  (a list this long reads better so)
)

PAIRS = [(name, name.removeprefix("Async")) for name in sorted(NAMES) if name.startswith("Async")]

METHODS = {
    "Client": "close create delete get health languages url",
    "Code": "execute run run_code stream",
    "Commands": "exec exec_stream execute execute_command get list run start start_background",
    "Context": "complete delete id inspect interrupt is_complete language name refresh restart",
    "Contexts": "complete create delete get inspect interrupt is_complete list restart",
    "Created": "",
    "Environment": "get set unset",
    "Executions": "attach cancel events get list send_input start",
    "FileSystem": "copy create_directory delete delete_file download download_archive download_file edit edit_file get_file_info info list list_directory ls mkdir move move_file read read_file read_multiple_files read_stream remove rename rm search search_files stat upload upload_archive upload_file watch watch_directory write write_file",
    "Interactive": "close send",
    "Notebooks": "export run",
    "Process": "close_stdin get_info id info is_alive kill output pid refresh signal wait write",
    "Processes": "kill kill_all killall list monitor ps",
    "Screen": "close output resize signal write",
    "Session": "cd command delete env events exec exec_stream file_system files filesystem fs get_env id interrupt keep_alive kill killall labels metrics monitor notebooks processes ps pty refresh run session_id shell start_background start_interactive_session start_session update",
    "Sessions": "create delete get iterate list page",
    "Shell": "close exec run",
    "Shells": "create list",
    "Terminal": "attach id kill pid refresh resize send_input signal wait write",
    "Terminals": "create get list",
}


def methods(cls):
    return {
        name: member
        for name, member in vars(cls).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    }


def test_the_public_names_are_these():
    assert set(sdk.__all__) == NAMES
    for name in NAMES:
        assert getattr(sdk, name) is not None
    assert dir(sdk) == sorted(sdk.__all__)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchThing"):
        sdk.NoSuchThing  # noqa: B018  (asking is the test)


@pytest.mark.parametrize(("name", "expected"), METHODS.items())
def test_the_public_methods_are_these(name, expected):
    assert sorted(methods(getattr(sdk, name))) == expected.split()


def test_the_synchronous_client_is_current():
    assert unasync.stale() == [], "run python tests/tools/unasync.py"


def plain(text):
    """A signature of either form without what the forms differ in."""
    text = re.sub(r"AsyncGenerator\[(.+), None\]", r"Generator[\1, None, None]", str(text))
    return re.sub(r"\bAsync(?=[A-Z])", "", text)


@pytest.mark.parametrize(("asynchronous", "synchronous"), PAIRS)
def test_both_forms_have_the_same_methods_with_the_same_signatures(asynchronous, synchronous):
    theirs, ours = methods(getattr(sdk, asynchronous)), methods(getattr(sdk, synchronous))
    assert {"close" if name == "aclose" else name for name in theirs} == set(ours)
    for name, member in theirs.items():
        twin = ours["close" if name == "aclose" else name]
        if isinstance(member, property):
            assert isinstance(twin, property)
            assert inspect.getdoc(member) == inspect.getdoc(twin)
            continue
        assert plain(inspect.signature(member)) == plain(inspect.signature(twin)), name
        assert inspect.getdoc(member) == inspect.getdoc(twin)
        assert not inspect.iscoroutinefunction(twin)


def test_every_public_method_says_what_it_does():
    for name in NAMES:
        value = getattr(sdk, name)
        if inspect.isclass(value) and not issubclass(value, Exception):
            assert inspect.getdoc(value), name
            for method, member in methods(value).items():
                assert inspect.getdoc(member), f"{name}.{method}"


def fresh(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_it_loads_nothing_of_the_server_and_nothing_heavy():
    loaded = fresh("from kernelgate.sdk import Client, AsyncClient, Result, errors, events\nimport sys\nprint(*sys.modules)").split()
    heavy = {"websockets", "tornado", "zmq", "httpx", "asyncio", "nbformat", "rich", "prompt_toolkit", "ssl"}
    assert not heavy & set(loaded)
    ours = {name for name in loaded if name.startswith("kernelgate.")}
    # The fold of events into notebooks is of neither side.
    assert all(name.startswith("kernelgate.sdk") or name == "kernelgate.notebook" for name in ours)


def test_using_it_still_loads_nothing_of_the_server():
    code = (
        "from kernelgate.sdk import Client, errors\nimport sys\n"
        "try: Client('http://127.0.0.1:9').health()\nexcept errors.ServerUnreachable: pass\nprint(*sys.modules)"
    )
    loaded = fresh(code).split()
    assert "httpx" in loaded
    assert not {"tornado", "zmq", "jupyter_client", "msgspec"} & set(loaded)


def test_importing_it_takes_less_than_a_tenth_of_a_second():
    # Its own time, and the best of several: what else the machine does at the moment proves nothing.
    code = "import time\nt = time.process_time()\nfrom kernelgate.sdk import Client, AsyncClient\nprint(time.process_time() - t)"
    assert min(float(fresh(code)) for _ in range(7)) < 0.1
