"""The Python kernel: ipykernel, with the additions docs/kernels.md asks for."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def prepare(preload: list[str]) -> dict[str, object]:
    """Import what a kernel needs, before the fork; the process stays single-threaded."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    import importlib

    import ipykernel.kernelapp  # noqa: F401
    import IPython.core.completer  # noqa: F401
    import jedi  # noqa: F401
    modules: list[str] = []
    missing: list[str] = []
    for name in preload:
        try:
            importlib.import_module(name)
            if name == "matplotlib":
                importlib.import_module("matplotlib.pyplot")
        except ImportError:
            missing.append(name)
        else:
            modules.append(name)
    return {"modules": modules, "missing": missing, "tasks": len(os.listdir("/proc/self/task"))}


def run(connection_file: str) -> NoReturn:
    """Become the kernel described by the connection file; never returns."""
    from ipykernel.kernelapp import IPKernelApp

    status = 0
    try:
        app = IPKernelApp.instance()
        app.initialize(["-f", connection_file, "--HistoryManager.enabled=False", "--log-level=50"])
        app.start()
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.__stderr__)
        status = 1
    finally:
        os._exit(status)


if __name__ == "__main__":
    prepare([])
    run(sys.argv[sys.argv.index("-f") + 1])
