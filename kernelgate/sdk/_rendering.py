"""A result as text for a terminal and as HTML for a notebook. Pure."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from kernelgate.sdk.models import Json, Result, ResultItem

# What a terminal can show as it is, best first. Markdown and LaTeX read well as source.
_AS_TEXT = ("text", "markdown", "latex")

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def item_text(item: ResultItem) -> str:
    """What stands for the item where only text can be shown."""
    picture = next((name for name in ("png", "jpeg", "svg", "pdf") if getattr(item, name)), None)
    # matplotlib's own text for a figure names an object and its address: the kind says more.
    if picture is not None:
        return f"[{picture} picture]" if picture != "pdf" else "[pdf document]"
    for name in _AS_TEXT:
        if getattr(item, name) is not None:
            return str(getattr(item, name))
    if item.json is not None:
        import json  # noqa: PLC0415

        return json.dumps(item.json, ensure_ascii=False, indent=2)
    return f"[{', '.join(item.formats()) or 'nothing'}]"


def failure_text(result: Result) -> str:
    """What a terminal shows of a failure: the traceback if there is one, else the reason."""
    if result.state != "done" or result.success:
        return ""
    if result.error is not None and result.timeout is None and result.death is None:
        return result.error.traceback or str(result.error)
    return result.error_message


def notes(result: Result) -> Iterator[str]:
    """What is neither output nor failure, and must not go unsaid."""
    if result.fresh_kernel:
        yield f"ran in a fresh kernel, without the variables of before: {result.fresh_kernel}"
    if result.truncated is not None:
        cut = {
            "stdout": result.truncated.stdout_bytes,
            "stderr": result.truncated.stderr_bytes,
            "results": result.truncated.result_bytes,
        }
        said = ", ".join(f"{count} bytes of {name}" for name, count in cut.items() if count)
        yield f"output was cut: {said}"
    if result.state != "done":
        yield f"execution {result.id} is {result.state}"


def _blocks(result: Result) -> Iterator[tuple[str, str]]:
    """(kind, text) in the order in which a terminal shows them."""
    yield "stdout", result.stdout
    yield "stderr", result.stderr
    for item in result.results:
        yield "result", item_text(item)
    yield "error", failure_text(result)
    for note in notes(result):
        yield "note", f"({note})"


def result_text(result: Result) -> str:
    """The whole result as a terminal would have shown it, without a last newline."""
    parts = [text if text.endswith("\n") else f"{text}\n" for _, text in _blocks(result) if text]
    return "".join(parts).removesuffix("\n")


_STYLES = {"stderr": "red", "error": "red", "note": "dim"}


def result_rich(result: Result) -> Iterator[Text]:
    """The same for rich, in colour; colours that the code itself made are kept."""
    from rich.text import Text  # noqa: PLC0415

    for kind, text in _blocks(result):
        if text:
            styled = Text.from_ansi(text.removesuffix("\n"))
            if not _ANSI.search(text):
                styled.stylize(_STYLES.get(kind, ""))
            yield styled


def _item_html(item: ResultItem) -> str:
    # The order is a notebook's: the richest kind it can show wins.
    if item.html is not None:
        return item.html
    if item.svg is not None:
        return item.svg
    for name in ("png", "jpeg"):
        value = getattr(item, name)
        if value is not None:
            # Some kernels break base64 into lines, which an attribute cannot hold.
            return f'<img src="data:image/{name};base64,{"".join(value.split())}">'
    return _pre(item_text(item))


def _pre(text: str, *, style: str = "") -> str:
    plain = html.escape(_ANSI.sub("", text))
    return f'<pre style="{style}">{plain}</pre>' if style else f"<pre>{plain}</pre>"


def result_html(result: Result) -> str:
    """The whole result as HTML; what the code made as HTML stays as the code made it."""
    parts = []
    if result.stdout:
        parts.append(_pre(result.stdout))
    if result.stderr:
        parts.append(_pre(result.stderr, style="background:#fdd"))
    parts += [_item_html(item) for item in result.results]
    failure = failure_text(result)
    if failure:
        parts.append(_pre(failure, style="color:#b00"))
    parts += [f"<p><small>{html.escape(note)}</small></p>" for note in notes(result)]
    return "\n".join(parts)


def result_mimebundle(result: Result) -> Json:
    """What a notebook shows for the result as a value.

    A result that is one item and nothing else is shown as that item, with every MIME type it has,
    so that charts stay live; anything more is put together as one piece of HTML.
    """
    alone = len(result.results) == 1 and not result.stdout and not result.stderr
    if alone and result.success and not any(notes(result)):
        return result.results[0].mimebundle()
    bundle: Json = {"text/plain": result_text(result)}
    if result.results or not result.success:
        bundle["text/html"] = result_html(result)
    return bundle
