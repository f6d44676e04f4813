"""IPython's shell as the Python kernel has it: what values are shown as, how errors are told, programs that are run."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import importlib
import importlib.util
import inspect
import os
import signal
import sys
import traceback
import types
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import ipykernel
import IPython
from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.autocall import ExitAutocall
from IPython.core.error import UsageError
from IPython.core.formatters import IPythonDisplayFormatter, MimeBundleFormatter
from IPython.core.history import HistoryManager
from IPython.core.profiledir import ProfileDir
from traitlets import Instance, Type, default, observe

from kernelgate.kernels import charts, children, tables

if TYPE_CHECKING:
    from collections.abc import Iterator


_INTERNAL_DIRS = tuple(str(Path(file).parent) + os.sep for file in (IPython.__file__, ipykernel.__file__, __file__))


def _user_frames(tb: types.TracebackType | None) -> types.TracebackType | None:
    """The same traceback without frames of the kernel's machinery; None if there are no others."""
    entries = []
    while tb is not None:
        if not tb.tb_frame.f_code.co_filename.startswith(_INTERNAL_DIRS):
            entries.append(tb)
        tb = tb.tb_next
    kept = None
    for entry in reversed(entries):
        kept = types.TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return kept


def _hide_internal_frames(exc: BaseException) -> None:
    """Cut the kernel's frames from an exception and everything chained to it."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [exc]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        with contextlib.suppress(Exception):
            current.__traceback__ = _user_frames(current.__traceback__)
        todo += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            todo += current.exceptions


@contextlib.contextmanager
def _modules_by_name() -> Iterator[None]:
    """IPython asks which module a frame is of, which Python finds out by looking at every module there is: after a fork that copies 8 MiB of pages."""
    original = inspect.getmodule

    def getmodule(obj: Any, _filename: Any = None) -> Any:
        if isinstance(obj, types.FrameType):
            return sys.modules.get(obj.f_globals.get("__name__", ""))
        return original(obj, _filename)

    inspect.getmodule = getmodule  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getmodule = original


def _safe_str(value: object) -> str:
    try:
        return str(value)
    except Exception as exc:  # noqa: BLE001 - a class of the user's may raise anything here
        return f"<str() of this exception failed: {type(exc).__name__}>"


def _ends_by_interrupt(exc: BaseException) -> bool:
    """Whether it is what SIGINT becomes in a cell that awaits, or that runs `%%bash`."""
    return isinstance(exc, asyncio.CancelledError) or (
        # The status may not be known yet when the magic gives up waiting for it.
        type(exc).__name__ == "CalledProcessError"
        and getattr(exc, "returncode", 0) in {None, 128 + signal.SIGINT, -signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL}
    )


class _Leave(SystemExit):
    """What `exit()` raises to end its cell; not an error."""


class Exit(ExitAutocall):
    """`exit` and `quit`: end the kernel, with an exit status as `sys.exit` has it."""

    _ip: Any

    def __call__(self, status: object = None) -> NoReturn:
        """End the cell, and after its reply the process."""
        code = status if isinstance(status, int) else 0 if status is None else 1
        if not isinstance(status, int) and status is not None:
            print(status, file=sys.stderr)  # noqa: T201 - as sys.exit does
        self._ip.leave(code)
        raise _Leave(code)


class DisplayHook(ZMQShellDisplayHook):
    """Publishes results; keeps no copy of what it published."""

    def log_output(self, format_dict: dict[str, Any]) -> None:
        """Nothing: IPython would hold every bundle, images included, for as long as it lives."""


class _DisplaysItself(IPythonDisplayFormatter):
    """Objects that display themselves; not Plotly's, which can also be a result, with text."""

    def __call__(self, obj: Any) -> bool | None:
        if type(obj).__module__.startswith("plotly.") and hasattr(obj, "_repr_mimebundle_"):
            return None
        shown: bool | None = super().__call__(obj)
        return shown


class _MimeBundle(MimeBundleFormatter):
    """Objects that know their own bundle; Altair's charts give their Vega-Lite besides HTML."""

    def __call__(self, obj: Any, include: Any = None, exclude: Any = None) -> Any:
        bundle = super().__call__(obj, include=include, exclude=exclude)
        altair: Any = sys.modules.get("altair")
        if altair is None or not isinstance(obj, altair.TopLevelMixin):
            return bundle
        data, metadata = bundle if bundle is not None else ({}, {})
        with contextlib.suppress(Exception):
            version = altair.SCHEMA_VERSION.lstrip("v").split(".")[0]
            data = {f"application/vnd.vegalite.v{version}+json": obj.to_dict(), **data}
        return data, metadata


class UnmadeProfileDir(ProfileDir):
    """A profile directory that is only a name until someone writes to it."""

    @observe("location")
    def _location_changed(self, change: Any) -> None:
        """Nothing to create."""

    def check_dirs(self) -> None:
        """Nothing to create."""


class History(HistoryManager):
    """What was run in this kernel, from memory. IPython asks its database for the tail and for searches, and there is none."""

    def get_tail(self, n: int | None = 10, raw: bool = True, output: bool = False, include_latest: bool = False) -> list[Any]:
        """The last cells, oldest first; `include_latest` false leaves out the one that asks."""
        found = list(self._get_range_session(1, None, raw, output))
        if not include_latest:
            found.pop()
        return found[-n:] if n else found[-10:] if n is None else []

    def search(
        self,
        pattern: str = "*",
        raw: bool = True,
        search_raw: bool = True,
        output: bool = False,
        n: int | None = None,
        unique: bool = False,
    ) -> list[Any]:
        """The cells that match a pattern of `*`, `?` and `[...]`, oldest first; `unique`: of equal ones the last."""
        texts = self.input_hist_raw if search_raw else self.input_hist_parsed
        found: dict[Any, Any] = {}
        for entry, text in zip(self._get_range_session(1, None, raw, output), texts[1:], strict=False):
            if fnmatch.fnmatchcase(text, pattern):
                key = text if unique else entry[1]
                found.pop(key, None)
                found[key] = entry
        return list(found.values())[-n:] if n else list(found.values()) if n is None else []


class Shell(ZMQInteractiveShell):
    """IPython's shell: plain tracebacks of the user's frames, and errors that are always told."""

    displayhook_class = Type(DisplayHook)
    exiter = Instance(Exit)  # type: ignore[assignment]
    kernel: Any
    display_formatter: Any
    payload_manager: Any

    last_error: tuple[str, str, list[str]] | None = None
    """ename, evalue and traceback of the last error sent for the running cell."""

    leaving: int | None = None
    """Exit status, once the user called `exit`."""

    ahead: tuple[str, str | None] | None = None
    """The text of a cell that is about to run, and what it was made of it: ipykernel asks, and then IPython again."""

    _asynchronous: tuple[str, bool] = ("", False)

    @default("exiter")
    def _default_exiter(self) -> Exit:
        return Exit(self)

    @observe("ipython_dir")
    def _ipython_dir_changed(self, change: Any) -> None:
        """Not created: nothing is kept there."""

    @observe("exit_now")
    def _update_exit_now(self, change: Any) -> None:
        """Not used: `leave` and the application's own shutdown replace it."""

    def init_history(self) -> None:
        """See `History`."""
        self.history_manager = History(shell=self, parent=self)
        self.configurables.append(self.history_manager)  # type: ignore[arg-type]

    def init_environment(self) -> None:
        """Only what keeps programs from waiting at a pager; colours and TERM are the caller's."""

    def enable_gui(self, gui: Any = None) -> None:
        """As ipykernel, which insists on a kernel even where there is no event loop to join."""
        if self.kernel is not None or gui is not None:
            super().enable_gui(gui)

    def init_display_formatter(self) -> None:
        """Add charts, tables and plain JSON to what values can be shown as."""
        super().init_display_formatter()
        self.shown_figures: weakref.WeakSet[Any] = weakref.WeakSet()
        charts.register(self.display_formatter, on_figure=self._on_figure)
        tables.register(self.display_formatter)
        display_formatter = self.display_formatter
        display_formatter.ipython_display_formatter = _DisplaysItself(parent=display_formatter)
        display_formatter.mimebundle_formatter = _MimeBundle(parent=display_formatter)

    def _on_figure(self, figure: Any) -> None:
        self.shown_figures.add(figure)
        # Becomes true again when anything on it is changed. Drawing for `bbox_inches="tight"` leaves
        # it true, although nothing changed.
        figure.stale = False

    def init_events(self) -> None:
        """First of all hooks: figures that were shown already are not shown again."""
        super().init_events()
        self.events.register("post_execute", self._forget_shown_figures)

    def _forget_shown_figures(self) -> None:
        backend = sys.modules.get("matplotlib_inline.backend_inline")
        if backend is None or not self.shown_figures:
            return
        close = backend.InlineBackend.instance().close_figures
        for manager in backend.Gcf.get_all_fig_managers():
            figure = manager.canvas.figure
            if figure in self.shown_figures and not figure.stale:
                backend.show._to_draw = [f for f in backend.show._to_draw if f is not figure]
                if close:
                    backend.Gcf.destroy(manager)
        self.shown_figures.clear()

    def leave(self, status: int) -> None:
        """End the kernel when the running cell has been answered, or now when there is none."""
        self.leaving = status
        if self.kernel is not None and not self.kernel.cell_running:
            self.kernel.parent.leave(status)

    def payloadpage_page(self, strg: Any, start: int = 0, screen_lines: int = 0, pager_cmd: Any = None) -> None:
        """`name?` is shown among the outputs: a caller of an API has no pager."""
        self.display_pub.publish(strg if isinstance(strg, dict) else {"text/plain": strg})

    def transform_cell(self, raw_cell: str) -> str:
        """As IPython, but once for each cell."""
        ahead, self.ahead = self.ahead, None
        if ahead is None or ahead[0] != raw_cell:
            return str(super().transform_cell(raw_cell))
        if ahead[1] is not None:
            return ahead[1]
        text = str(super().transform_cell(raw_cell))
        self.ahead = (raw_cell, text)
        return text

    def should_run_async(self, raw_cell: str, *, transformed_cell: Any = None, preprocessing_exc_tuple: Any = None) -> bool:
        """As IPython, which compiles the cell to find out, but once for each text."""
        if transformed_cell is None or preprocessing_exc_tuple is not None or not self.autoawait:
            return bool(
                super().should_run_async(raw_cell, transformed_cell=transformed_cell, preprocessing_exc_tuple=preprocessing_exc_tuple)
            )
        if transformed_cell != self._asynchronous[0]:
            self._asynchronous = (transformed_cell, bool(super().should_run_async(raw_cell, transformed_cell=transformed_cell)))
        return self._asynchronous[1]

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Nothing: IPython would keep all output of all cells in memory, for %notebook."""
        yield

    def _format_exception_for_storage(
        self, exception: BaseException, filename: Any = None, running_compiled_code: bool = False
    ) -> dict[str, Any]:
        # IPython formats every traceback a second time, for %notebook.
        ename, evalue, lines = self.last_error or (type(exception).__name__, "", [])
        return {"ename": ename, "evalue": evalue, "traceback": lines}

    def showtraceback(
        self,
        exc_tuple: Any = None,
        filename: str | None = None,
        tb_offset: int | None = None,
        exception_only: bool = False,
        running_compiled_code: bool = False,
    ) -> None:
        """Send the error, whatever it is.

        IPython prints usage errors and exception groups to stderr instead, and shows no traceback
        for SystemExit.
        """
        try:
            etype, value, tb = self._get_exc_info(exc_tuple)
        except ValueError:
            print("No traceback available to show.", file=sys.stderr)  # noqa: T201
            return
        if isinstance(value, _Leave):
            return
        if self.kernel is not None and self.kernel.interrupted and _ends_by_interrupt(value):
            # Same cause, same name as everywhere else.
            etype, value = KeyboardInterrupt, KeyboardInterrupt().with_traceback(tb)
        if issubclass(etype, SyntaxError):
            self.showsyntaxerror(filename, running_compiled_code)
            return
        try:
            lines = self._format_error(etype, value, tb)
        except Exception:  # noqa: BLE001 - formatting runs reprs and renderers of the user's
            lines = traceback.format_exception_only(etype, value)
        self._showtraceback(etype, value, lines)
        if self.call_pdb:
            self.debugger(force=True)

    def _format_error(self, etype: Any, value: Any, tb: Any) -> list[str]:
        if etype is UsageError:
            return [f"UsageError: {value}"]
        if hasattr(value, "_render_traceback_"):
            return list(value._render_traceback_())
        _hide_internal_frames(value)
        tb = _user_frames(tb)
        chain, current = [], value
        while current is not None and current not in chain:
            chain.append(current)
            current = current.__cause__ or current.__context__
        if any(isinstance(exc, BaseExceptionGroup) for exc in chain):
            text = "".join(traceback.format_exception(etype, value, tb))
            return text.rstrip("\n").split("\n")
        with _modules_by_name():
            return list(self.InteractiveTB.structured_traceback(etype, value, tb, tb_offset=0))

    def showsyntaxerror(self, filename: str | None = None, running_compiled_code: bool = False) -> None:
        """Send the syntax error; with the user's frames when compiled code raised it."""
        etype, value, tb = self._get_exc_info()
        if filename and isinstance(value, SyntaxError):
            with contextlib.suppress(AttributeError):
                value.filename = filename
        entries: Any = traceback.extract_tb(_user_frames(tb)) if running_compiled_code else []
        self._showtraceback(etype, value, self.SyntaxTB.structured_traceback(etype, value, entries))

    def _showtraceback(self, etype: Any, evalue: Any, stb: list[str]) -> None:
        text = _safe_str(evalue)
        self.last_error = (etype.__name__, text, list(stb))
        super()._showtraceback(etype, text, stb)

    def system_piped(self, cmd: str) -> None:
        """`!cmd`: a child with the kernel's own stdout and stderr, which are captured.

        IPython runs it under a pseudo terminal, which merges the two streams, holds all output in
        memory, polls, and needs a pty.
        """
        self.user_ns["_exit_code"] = _system(self.var_expand(cmd, depth=1))
        importlib.invalidate_caches()  # it may have been `pip install`

    system = system_piped


def _system(command: str) -> int:
    """Run a shell command; its exit status, or minus the signal that ended it."""
    import subprocess

    sys.stdout.flush()
    shell = os.environ.get("SHELL", "/bin/sh")
    if not os.access(shell, os.X_OK):
        shell = "/bin/sh"
    process = subprocess.Popen([shell, "-c", command])
    try:
        return process.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(children.STOP_GRACE_S)
        process.kill()
        process.wait()
        raise


def os_system(command: Any) -> int:
    """`os.system`, but interruptible: libc's ignores SIGINT while it waits."""
    status = _system(os.fsdecode(command))
    return -status if status < 0 else status << 8
