"""What is done once, before a Python kernel is forked, so that it starts warm; and how it is undone."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import io
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipykernel.compiler import XCachingCompiler
from IPython.core.profiledir import ProfileDir
from jupyter_client.session import Session
from traitlets.config import Config

from kernelgate.kernels.shell import Shell, UnmadeProfileDir

if TYPE_CHECKING:
    from collections.abc import Callable


SCRATCH_DIR = "/tmp/.kernelgate"  # noqa: S108 - a session's /tmp is its own
"""Where IPython and jedi may keep files; made by them, and only if they write any."""

CONFIG = Config(
    {
        "InteractiveShell": {"colors": "nocolor"},
        "HistoryManager": {"enabled": False, "hist_file": ":memory:"},
        "Session": {"packer": "kernelgate.kernels.packing.pack"},
    }
)


def _profile_dir() -> ProfileDir:
    return UnmadeProfileDir(location=SCRATCH_DIR)


def the_shell() -> Any:
    """The shell, built without a kernel if it does not exist yet."""
    if Shell.initialized():
        return Shell.instance()
    main = sys.modules["__main__"]
    shell = Shell.instance(
        config=CONFIG,
        ipython_dir=SCRATCH_DIR,
        profile_dir=_profile_dir(),
        user_ns={},
        compiler_class=XCachingCompiler,
    )
    # Building the shell makes its user module the main module, which is true only in a kernel.
    sys.modules["__main__"] = main
    _set_jedi_cache()
    # IPython's advice after SystemExit: there is no Ctrl-D here.
    warnings.filterwarnings("ignore", message="To exit: use 'exit'")
    return shell


# -- before the fork -------------------------------------------------------------------------

_WARM_CELLS = (
    "x = [i for i in range(3)]\nx",
    "class A:\n    def f(self): return {'a': [1, 2.5, None]}\nA().f()",
    "1/0",
    "def f(:",
    "from IPython.display import display, HTML\ndisplay(HTML('<b>x</b>'))",
    "%time 1\n",
    "len?",
)

_WARM_LIBRARY_CELLS = {
    "numpy": "import numpy as np\nnp.arange(6.0).reshape(2, 3) @ np.ones((3, 2))",
    "pandas": (
        "import pandas as pd\n"
        "df = pd.DataFrame({'a': [1, 2], 'b': ['x', None], 't': pd.to_datetime(['2024-01-01', None])})\n"
        "df.groupby('b').a.sum()\ndf.describe()\ndf"
    ),
    "matplotlib": (
        "import matplotlib.pyplot as plt\n"
        "fig, ax = plt.subplots()\nax.plot([1, 2, 3], label='l')\nax.bar([1], [2])\n"
        "ax.set_title('t')\nax.set_xlabel('$x$')\nax.legend()\nplt.show()"
    ),
}

_ALSO = {
    "matplotlib": ("matplotlib.pyplot", "matplotlib.dates", "matplotlib_inline.backend_inline"),
    "numpy": ("numpy.random", "numpy.linalg", "numpy.fft"),
}


# What a kernel would import at its start or in its first cells.
_LAZY_IMPORTS = (
    "IPython.core.completer", "IPython.core.debugger", "IPython.core.magics.namespace",
    "IPython.core.magics.script", "IPython.extensions.storemagic", "concurrent.futures.thread",
    "faulthandler", "jedi", "multiprocessing.pool", "multiprocessing.popen_fork",
    "multiprocessing.util", "pdb", "pydoc", "pygments.formatters.html", "pygments.lexers.python",
    "pygments.styles.default", "stack_data", "subprocess", "tornado.platform.asyncio",
)  # fmt: skip


class _Nowhere:
    def send_multipart(self, *_args: Any, **_kwargs: Any) -> None:
        pass


def prepare(preload: list[str], make: Callable[[], Any], rehearse: Callable[[Any], object]) -> dict[str, Any]:
    """See `python.prepare`; `make` makes the kernel that the forks will have, and `rehearse` has it play."""
    added = {
        # A BLAS that starts threads at import would make the process unfit to fork. It stays at
        # one thread in the kernels; a cell can change that with threadpoolctl.
        **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    added = {name: value for name, value in added.items() if name not in os.environ}
    os.environ.update(added)
    streams = sys.stdout, sys.stderr
    try:
        return _prepare(preload, make, rehearse)
    finally:
        sys.stdout, sys.stderr = streams
        for name in added:
            os.environ.pop(name, None)


def _prepare(preload: list[str], make: Callable[[], Any], rehearse: Callable[[Any], object]) -> dict[str, Any]:
    for name in _LAZY_IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    imported, missing = [], []
    for name in preload:
        if importlib.util.find_spec(name) is None:
            missing.append(name)
            continue
        importlib.import_module(name)
        for more in _ALSO.get(name, ()):
            importlib.import_module(more)
        imported.append(name)
    shell = the_shell()
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    shell.extension_manager.load_extension("IPython.extensions.storemagic")
    if "matplotlib" in imported:
        shell.enable_matplotlib("inline")
    if "PIL" in sys.modules:
        # `Image.show()` shows the image among the outputs, instead of looking for a desktop.
        viewers = importlib.import_module("PIL.ImageShow")._viewers
        viewers.sort(key=lambda viewer: type(viewer).__name__ != "IPythonViewer")
    cells = [*_WARM_CELLS, *(cell for name, cell in _WARM_LIBRARY_CELLS.items() if name in imported)]
    _warm(shell, cells, completions=bool(imported))
    made = make()
    if imported:
        rehearse(made)
    return {
        "modules": imported,
        "missing": missing,
        "tasks": len(os.listdir("/proc/self/task")),
    }


def _warm(shell: Any, cells: list[str], *, completions: bool) -> None:
    """Run throw-away cells and requests, and remove every trace of them.

    Completions take jedi half a second and much memory: they are not for who wants nothing prepared.
    """
    session = Session(key=b"warm")
    for publisher in (shell.displayhook, shell.display_pub):
        publisher.session, publisher.pub_socket = session, _Nowhere()
    shell.displayhook.topic = b"execute_result"
    before = namespaces(shell)
    main, sys.modules["__main__"] = sys.modules["__main__"], shell.user_module
    try:
        for cell in cells:
            shell.run_cell(cell, store_history=False)
        from IPython.core.completer import provisionalcompleter

        with provisionalcompleter():
            for code in ("import o", "x.app", "y = [1]; y.app", "import os; os.path.jo") if completions else ():
                for completion in shell.Completer.completions(code, len(code)):
                    _ = completion.type, completion.signature
        with contextlib.suppress(KeyError):
            shell.object_inspect_mime("x")
        shell.input_transformer_manager.check_complete("for i in x:")
    finally:
        sys.modules["__main__"] = main
    forget(shell, before)
    for publisher in (shell.displayhook, shell.display_pub):
        publisher.session = publisher.pub_socket = None
    if "matplotlib.pyplot" in sys.modules:
        _forget_figures()
    for name in ("last_type", "last_value", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)


def namespaces(shell: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copies, for `forget`."""
    return dict(shell.user_ns), dict(shell.user_ns_hidden)


def forget(shell: Any, before: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Remove every trace of cells that ran since `namespaces` were these."""
    visible, hidden = before
    shell.user_ns.clear()
    shell.user_ns.update(visible)
    shell.user_ns["_oh"].clear()
    shell.user_ns.update({"_": "", "__": "", "___": ""})
    # IPython sets `_` only while it is what it was hidden with.
    shell.user_ns_hidden.clear()
    shell.user_ns_hidden.update(hidden | {"_": "", "__": "", "___": ""})
    shell.displayhook._ = shell.displayhook.__ = shell.displayhook.___ = ""
    shell.displayhook.exec_result = None
    shell.last_execution_result = None
    shell.last_error = shell._last_traceback = None
    history = shell.history_manager
    history.reset()
    history._i = history._ii = history._iii = history._i00 = ""
    shell.payload_manager.clear_payload()


def _forget_figures() -> None:
    """Close the files that are cached fonts, and forget that anything was drawn."""
    sys.modules["matplotlib.font_manager"]._get_font.cache_clear()
    if "matplotlib.mathtext" in sys.modules:
        sys.modules["matplotlib.mathtext"].MathTextParser._parse_cached.cache_clear()
    draw = sys.modules["matplotlib.pyplot"].draw_if_interactive
    if hasattr(draw, "called"):
        # IPython's mark; `%run` would draw an empty figure because of it.
        draw.called = False
    gc.collect()


def _set_jedi_cache() -> None:
    """Jedi writes what it parsed to ~/.cache otherwise, which is the user's workspace."""
    with contextlib.suppress(ImportError):
        import jedi.settings
        import parso.cache

        jedi.settings.cache_directory = f"{SCRATCH_DIR}/jedi"
        parso.cache._default_cache_path = Path(SCRATCH_DIR, "parso")
