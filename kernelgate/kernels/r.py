"""The R kernel: one R that runs `kernel.R` behind the front of `kernelgate.kernels.front`.

`kernel.R` lies in the installed kernelspec; a kernel started by fork looks for it there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from typing import Any, NoReturn

from kernelgate.kernels import front

SCRIPT = os.path.join(sys.prefix, "share", "jupyter", "kernels", "r", "kernel.R")


class RKernel(front.Front):
    implementation = "kernelgate-r"

    def __init__(self, connection_file: str, script: str = SCRIPT) -> None:
        super().__init__(connection_file)
        self.language_info = {
            "name": "R",
            "version": "",
            "mimetype": "text/x-r-source",
            "file_extension": ".r",
            "codemirror_mode": "r",
            "pygments_lexer": "r",
        }
        self.script = script
        self.temporary = ""
        # The last visible value, until it is known whether another follows.
        self.held: dict[str, Any] | None = None
        self.has_result = False

    def argv(self) -> list[str]:
        # The site's profile is read (package mirrors are set there), the user's is not.
        return ["R", "--no-echo", "--no-save", "--no-restore", "--no-environ", "--no-init-file", f"--file={self.script}"]

    def environment(self) -> dict[str, str]:
        env = dict(os.environ)
        ctype = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
        if "utf" not in ctype.lower():
            # In the C locale R shows what is not ASCII as <U+00E4>.
            env.pop("LC_ALL", None)
            env["LC_CTYPE"] = "C.UTF-8"
        return env

    def request(self, *fields: str) -> None:
        body = b"\0".join(field.encode("utf-8", "replace") for field in fields)
        self.command(b"%010d" % len(body) + body)

    # -- cells -----------------------------------------------------------------------------------

    def execute(self, code: str, env: dict[str, str], silent: bool) -> None:
        self.held, self.has_result = None, False
        flags = ("s" if silent else "") + ("i" if self.allow_stdin else "") + "-"
        pairs = [text for name, value in env.items() if "=" not in name for text in (name, value)]
        self.request("execute", code, flags, *pairs)

    def publish(self, kind: str, content: dict[str, Any], parent: front.Message | None = None) -> None:
        self.release(kind)
        super().publish(kind, content, parent)

    def flush(self) -> None:
        if self.pending:
            self.release("stream")
        super().flush()

    def release(self, kind: str) -> None:
        """A value is the result if nothing but the end of the cell follows it; order comes first."""
        if self.held is None:
            return
        data, self.held = self.held, None
        waiting, self.pending, self.pending_chars = self.pending, [], 0
        if kind == "end" and not self.has_result:
            self.has_result = True
            super().publish("execute_result", {"data": data, "metadata": {}, "execution_count": self.execution_count})
        else:
            super().publish("display_data", {"data": data, "metadata": {}, "transient": {}})
        self.pending, self.pending_chars = waiting, sum(len(text) for _, text in waiting)

    def signal_child(self, age_s: float) -> None:
        super().signal_child(age_s)
        if self.asking:
            # R waits for the answer and looks at no signal until it has one.
            self.asking = False
            self.request("interrupted")

    def on_answer(self, value: str) -> None:
        if not self.prompted:
            super().on_answer(value)
        elif value == front.END_OF_INPUT:
            self.request("end")
        else:
            self.request("answer", value.replace("\0", ""))

    prompted = False

    def ask(self, prompt: str, *, password: bool) -> None:
        self.prompted = False
        super().ask(prompt, password=password)

    @staticmethod
    def bundle(fields: list[bytes]) -> dict[str, Any]:
        data = {}
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            mime = name.decode()
            try:
                data[mime] = front.bundle_value(mime, value)
            except ValueError:
                data.setdefault("text/plain", value.decode("utf-8", "replace"))
        if "text/plain" not in data:
            said = next((data[mime] for mime in ("text/markdown", "text/latex") if mime in data), None)
            data["text/plain"] = said or f"<{next(iter(data), '')}>"
        return data

    def on_frame(self, kind: str, fields: list[bytes]) -> None:  # noqa: C901  (one branch for each kind)
        texts = [] if kind in ("value", "display") else [field.decode("utf-8", "replace") for field in fields]
        if kind == "value":
            self.flush()
            self.release("value")
            data = self.bundle(fields[1:])
            self.held = data
            if fields[0] == b"last":
                self.release("end")
            self.request("seen")
        elif kind == "display":
            data = self.bundle(fields[1:])
            self.display(data, {mime: about for mime, about in json.loads(fields[0]).items() if mime in data or "/" not in mime})
            self.request("seen")
        elif kind == "clear":
            self.publish("clear_output", {"wait": texts[0] == "true"})
            self.request("seen")
        elif kind == "prompt":
            self.ask(texts[0], password=False)
            self.prompted = True
        elif kind == "done" and self.executing:
            self.flush()
            self.release("end")
            self.finish_execute(None)
        elif kind == "failed" and self.executing:
            self.finish_execute((texts[0], texts[1], texts[2].split("\n")))
        elif kind == "broken" and self.shell_parent is not None:
            if self.executing:
                self.finish_execute(("KernelError", texts[0], [f"KernelError: {texts[0]}"]))
            else:
                self.finish({"status": "error", "ename": "KernelError", "evalue": texts[0], "traceback": []})
        elif kind == "ready":
            self.language_info = {**self.language_info, "version": texts[0]}
            self.banner, self.temporary = texts[1], texts[2]
            self.ready = True
        elif kind == "message":
            content = json.loads(texts[2])
            if texts[1] == "shell":
                if self.shell_parent is not None:
                    self.reply(self.shell_parent, {"status": "ok", **content.get("content", content)})
            else:
                self.publish(texts[0], content)
        elif kind == "did":
            self.finish(None)
        elif kind in ("complete", "inspect", "is_complete"):
            self.finish(self.answer(kind, texts))

    @staticmethod
    def answer(kind: str, texts: list[str]) -> dict[str, Any]:
        if kind == "complete":
            return {
                "status": "ok",
                "matches": [text for text in texts[2].split("\n") if text],
                "metadata": {},
                "cursor_start": int(texts[0]),
                "cursor_end": int(texts[1]),
            }
        if kind == "inspect":
            data = {"text/plain": texts[0]} if texts[0] else {}
            if texts[1]:
                data["text/html"] = texts[1]
            return {"status": "ok", "found": bool(data), "data": data, "metadata": {}}
        return {"status": texts[0], **({"indent": "  "} if texts[0] == "incomplete" else {})}

    # -- questions -------------------------------------------------------------------------------

    def on_complete(self, content: dict[str, Any]) -> None:
        code = str(content.get("code", ""))
        self.request("complete", code, str(content.get("cursor_pos", len(code))))

    def on_inspect(self, content: dict[str, Any]) -> None:
        code = str(content.get("code", ""))
        self.request("inspect", code, str(content.get("cursor_pos", len(code))))

    def on_is_complete(self, content: dict[str, Any]) -> None:
        self.request("is_complete", str(content.get("code", "")))

    def on_comm_open(self, content: dict[str, Any]) -> None:
        self.request("comm", "comm_open", json.dumps(content))

    def on_comm_msg(self, content: dict[str, Any]) -> None:
        self.request("comm", "comm_msg", json.dumps(content))

    def on_comm_close(self, content: dict[str, Any]) -> None:
        self.request("comm", "comm_close", json.dumps(content))

    def tidy(self) -> None:
        if self.temporary.rpartition("/")[2].startswith("Rtmp"):
            with contextlib.suppress(OSError):
                shutil.rmtree(self.temporary)


def run(connection_file: str) -> NoReturn:
    """Become the kernel described by the connection file; never returns."""
    front.serve(RKernel, connection_file)


if __name__ == "__main__":
    if sys.argv[-1].endswith(".R"):
        RKernel.__init__.__defaults__ = (sys.argv[-1],)
    run(sys.argv[sys.argv.index("-f") + 1])
