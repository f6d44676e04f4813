"""MIME bundles and the result items made of them.

An item has a short name for every kind the seed documents name, `extra` for every other MIME type, and can be turned back into the bundle.
"""

from __future__ import annotations

import json
from typing import Any

CHART_MIME = "application/vnd.kernelgate.chart+json"
DATA_MIME = "application/vnd.kernelgate.data+json"

#: Short name of an item's field by MIME type, in the order in which an item shows them.
NAMES: dict[str, str] = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/svg+xml": "svg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    CHART_MIME: "chart",
    DATA_MIME: "data",
}
MIMES = {name: mime for mime, name in NAMES.items()}


def is_text(mime: str) -> bool:
    return mime.startswith("text/") or mime in ("image/svg+xml", "application/javascript")


def is_json(mime: str) -> bool:
    return mime == "application/json" or mime.endswith("+json")


def normalise(data: Any) -> dict[str, Any]:
    """A bundle as it should be: string keys, text as one string (nbformat allows lists of lines), nothing null."""
    if not isinstance(data, dict):
        return {}
    bundle: dict[str, Any] = {}
    for mime, value in data.items():
        if value is None:
            continue
        if isinstance(value, list) and not is_json(mime) and all(isinstance(line, str) for line in value):
            value = "".join(value)
        if not isinstance(value, str) and not is_json(mime):
            value = json.dumps(value) if isinstance(value, dict | list) else str(value)
        bundle[str(mime)] = value
    return bundle


def item(data: Any, *, is_main_result: bool, metadata: Any = None) -> dict[str, Any]:
    """A result item from a MIME bundle."""
    bundle = normalise(data)
    made: dict[str, Any] = {"is_main_result": is_main_result}
    for mime, name in NAMES.items():
        if mime in bundle:
            made[name] = bundle.pop(mime)
    if bundle:
        made["extra"] = bundle
    if isinstance(metadata, dict) and metadata:
        made["metadata"] = metadata
    return made


def bundle(item: dict[str, Any]) -> dict[str, Any]:
    """The MIME bundle an item was made from."""
    made = {MIMES[name]: value for name, value in item.items() if name in MIMES}
    extra = item.get("extra")
    return made | extra if isinstance(extra, dict) else made


def size_bytes(item: dict[str, Any]) -> int:
    """About how many bytes an item takes as JSON; strings are counted as they are."""
    return sum(_size(value) for value in item.values())


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
    if isinstance(value, dict):
        return sum(len(str(key)) + _size(inner) for key, inner in value.items())
    if isinstance(value, list):
        return sum(_size(inner) + 1 for inner in value)
    return 8
