"""A kernel that has rehearsed is as one that has not: nothing of it is left but that it is quick."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, os, sys
sys.path.insert(0, os.getcwd())
from kernelgate.kernels import python, rehearsal
fds = sorted(os.listdir("/proc/self/fd"))
streams, main, played = (sys.stdout, sys.stderr), sys.modules["__main__"], []
play = rehearsal._play
async def count(*args):
    await play(*args)
    played.append(python.KernelApp.instance().kernel.shell.execution_count)
rehearsal._play = count
facts = python.prepare(["json"])
app = python.KernelApp.instance()
shell = app.kernel.shell
print(json.dumps({
    "tasks": facts["tasks"], "fds": sorted(os.listdir("/proc/self/fd")) == fds, "streams": (sys.stdout, sys.stderr) == streams, "main": sys.modules["__main__"] is main,
    "names": sorted(set(shell.user_ns) - {"get_ipython", "exit", "quit", "open", "In", "Out"}), "count": shell.execution_count, "inputs": shell.history_manager.input_hist_raw,
    "key": app.session.key.decode(), "digests": len(app.session.digest_history), "messages": app.session.message_count, "kernel": shell.kernel is None,
    "sockets": app.kernel.iopub_socket is None and app.iopub_socket is None, "played": played[-1],
}))
"""


def test_nothing_is_left():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    names = [name for name in facts.pop("names") if not name.startswith("_")]
    assert names == []
    assert facts.pop("played") > 30  # cells that were counted, and forgotten
    assert facts == {
        "tasks": 1, "fds": True, "streams": True, "main": True, "count": 1, "inputs": [""], "key": "", "digests": 0, "messages": 0, "kernel": True, "sockets": True,
    }  # fmt: skip
