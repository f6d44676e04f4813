"""The OpenAPI 3.1 document, from the models that validate and the table of routes."""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec

import kernelgate
from kernelgate.api.native import file_model as f
from kernelgate.api.native import model as m
from kernelgate.api.routes import NATIVE, SERVICE

_JSON, _NDJSON, _SSE = "application/json", "application/x-ndjson", "text/event-stream"
#: By path and method: (summary, request model, status, answer model, can stream, query parameters)
_CALLS: dict[tuple[str, str], tuple[str, Any, int, Any, bool, tuple[str, ...]]] = {
    ("/v1/sessions", "post"): ("Create a session", m.CreateSession, 201, m.Session, False, ()),
    ("/v1/sessions", "get"): ("List sessions", None, 200, m.SessionList, False, ("label", "state", "limit", "page_token")),
    ("/v1/sessions/{session_id}", "get"): ("Get a session", None, 200, m.Session, False, ()),
    ("/v1/sessions/{session_id}", "patch"): ("Change labels and limits", m.UpdateSession, 200, m.Session, False, ()),
    ("/v1/sessions/{session_id}", "delete"): ("End a session", None, 204, None, False, ()),
    ("/v1/sessions/{session_id}/keepalive", "post"): ("Start the idle clock again", None, 200, m.Session, False, ()),
    ("/v1/sessions/{session_id}/interrupt", "post"): ("Interrupt everything", None, 200, m.Interrupted, False, ()),
    ("/v1/sessions/{session_id}/contexts", "get"): ("List contexts", None, 200, m.Contexts, False, ()),
    ("/v1/sessions/{session_id}/contexts", "post"): ("Create a context", m.CreateContext, 201, m.Context, False, ()),
    ("/v1/sessions/{session_id}/contexts/{context}", "get"): ("Get a context", None, 200, m.Context, False, ()),
    ("/v1/sessions/{session_id}/contexts/{context}", "delete"): ("Delete a context", None, 204, None, False, ()),
    ("/v1/sessions/{session_id}/contexts/{context}/restart", "post"): ("Restart a context's kernel", None, 200, m.Context, False, ()),
    ("/v1/sessions/{session_id}/contexts/{context}/interrupt", "post"): ("Interrupt a context", None, 200, m.Interrupted, False, ()),
    ("/v1/sessions/{session_id}/contexts/{context}/complete", "post"): ("Complete code", m.Complete, 200, m.Completion, False, ()),
    ("/v1/sessions/{session_id}/contexts/{context}/inspect", "post"): ("Inspect code", m.Inspect, 200, m.Inspection, False, ()),
    ("/v1/sessions/{session_id}/contexts/{context}/is_complete", "post"): (
        "Whether code is complete",
        m.IsComplete,
        200,
        m.Completeness,
        False,
        (),
    ),
    ("/v1/sessions/{session_id}/executions", "post"): ("Run code", m.Execute, 200, m.Result, True, ("wait",)),
    ("/v1/sessions/{session_id}/executions", "get"): ("List executions", None, 200, m.Executions, False, ("limit", "page_token")),
    ("/v1/sessions/{session_id}/executions/{execution_id}", "get"): (
        "Get or follow an execution",
        None,
        200,
        m.Result,
        True,
        ("wait", "after"),
    ),
    ("/v1/sessions/{session_id}/executions/{execution_id}/cancel", "post"): ("Cancel an execution", None, 200, m.Result, False, ()),
    ("/v1/sessions/{session_id}/executions/{execution_id}/stdin", "post"): ("Answer an input request", m.Stdin, 204, None, False, ()),
    ("/v1/sessions/{session_id}/commands", "post"): ("Run a command", m.CreateCommand, 200, m.Command, True, ("wait",)),
    ("/v1/sessions/{session_id}/commands", "get"): ("List commands", None, 200, m.Commands, False, ("running", "limit", "page_token")),
    ("/v1/sessions/{session_id}/commands/{command_id}", "get"): ("Get or follow a command", None, 200, m.Command, True, ("wait", "after")),
    ("/v1/sessions/{session_id}/commands/{command_id}/stdin", "post"): ("Write to a command's input", m.CommandInput, 204, None, False, ()),
    ("/v1/sessions/{session_id}/commands/{command_id}/signal", "post"): ("Signal a command", m.SendSignal, 200, m.Command, False, ()),
    ("/v1/sessions/{session_id}/commands/{command_id}/kill", "post"): ("End a command", m.Kill, 200, m.Command, False, ()),
    ("/v1/sessions/{session_id}/files", "get"): (
        "List a directory",
        None,
        200,
        f.FileList,
        False,
        ("path", "path_b64", "depth", "limit", "page_token"),
    ),
    ("/v1/sessions/{session_id}/files", "delete"): (
        "Delete a file or directory",
        None,
        200,
        f.Deleted,
        False,
        ("path", "path_b64", "recursive", "missing_ok"),
    ),
    ("/v1/sessions/{session_id}/files/stat", "get"): ("What a path names", None, 200, f.File, False, ("path", "path_b64", "follow")),
    ("/v1/sessions/{session_id}/files/content", "get"): ("Download a file", None, 200, None, False, ("path", "path_b64")),
    ("/v1/sessions/{session_id}/files/content", "put"): (
        "Write or upload a file",
        None,
        200,
        f.WrittenFile,
        False,
        ("path", "path_b64", "mode", "parents", "permissions"),
    ),
    ("/v1/sessions/{session_id}/files/text", "get"): (
        "Read a file as text",
        None,
        200,
        f.TextFile,
        False,
        ("path", "path_b64", "encoding", "errors"),
    ),
    ("/v1/sessions/{session_id}/files/read", "post"): ("Read several files", f.ReadFiles, 200, f.ReadFilesAnswer, False, ()),
    ("/v1/sessions/{session_id}/files/mkdir", "post"): ("Make a directory", f.MakeDirectory, 201, f.File, False, ()),
    ("/v1/sessions/{session_id}/files/move", "post"): ("Move a file or directory", f.Relocation, 200, f.File, False, ()),
    ("/v1/sessions/{session_id}/files/copy", "post"): ("Copy a file or directory", f.Relocation, 201, f.File, False, ()),
    ("/v1/sessions/{session_id}/files/edit", "post"): ("Replace texts in a file", f.EditFile, 200, f.Edited, False, ()),
    ("/v1/sessions/{session_id}/files/search", "post"): ("Find files by name and content", f.SearchFiles, 200, f.Matches, False, ()),
    ("/v1/sessions/{session_id}/files/watch", "get"): ("Watch a directory", None, 200, None, False, ("path", "path_b64", "recursive")),
    ("/v1/sessions/{session_id}/files/archive", "get"): (
        "Download a tree as tar.gz",
        None,
        200,
        None,
        False,
        ("path", "path_b64", "exclude"),
    ),
    ("/v1/sessions/{session_id}/files/archive", "put"): ("Unpack an archive", None, 201, f.Unpacked, False, ("path", "path_b64")),
    ("/v1/sessions/{session_id}/env", "get"): ("The session's environment", None, 200, m.Environment, False, ("name",)),
    ("/v1/sessions/{session_id}/env", "put"): ("Set variables", m.SetEnv, 200, m.Environment, False, ()),
    ("/v1/sessions/{session_id}/env", "delete"): ("Unset variables, or all", None, 200, m.Environment, False, ("name",)),
    ("/v1/sessions/{session_id}/shells", "post"): ("Make a shell", m.CreateShell, 201, m.Shell, False, ()),
    ("/v1/sessions/{session_id}/shells", "get"): ("List shells", None, 200, m.Shells, False, ()),
    ("/v1/sessions/{session_id}/shells/{shell_id}", "get"): ("Get a shell", None, 200, m.Shell, False, ()),
    ("/v1/sessions/{session_id}/shells/{shell_id}", "delete"): ("End a shell", None, 204, None, False, ()),
    ("/v1/sessions/{session_id}/shells/{shell_id}/run", "post"): ("Run in a shell", m.RunInShell, 200, m.Command, True, ("wait",)),
    ("/v1/sessions/{session_id}/terminals", "post"): ("Make a terminal", m.CreateTerminal, 201, m.Terminal, False, ()),
    ("/v1/sessions/{session_id}/terminals", "get"): ("List terminals", None, 200, m.Terminals, False, ()),
    ("/v1/sessions/{session_id}/terminals/{terminal_id}", "get"): (
        "Get a terminal, or attach by WebSocket",
        None,
        200,
        m.Terminal,
        False,
        ("token", "after"),
    ),
    ("/v1/sessions/{session_id}/terminals/{terminal_id}", "delete"): ("End a terminal", None, 204, None, False, ()),
    ("/v1/sessions/{session_id}/terminals/{terminal_id}/input", "post"): ("Type into a terminal", m.TerminalInput, 204, None, False, ()),
    ("/v1/sessions/{session_id}/terminals/{terminal_id}/resize", "post"): ("Resize a terminal", m.Resize, 200, m.Terminal, False, ()),
    ("/v1/sessions/{session_id}/terminals/{terminal_id}/signal", "post"): ("Signal in a terminal", m.SendSignal, 204, None, False, ()),
    ("/v1/sessions/{session_id}/processes", "get"): ("List processes", None, 200, m.Processes, False, ("filter",)),
    ("/v1/sessions/{session_id}/processes/kill", "post"): ("Signal processes", m.KillProcesses, 200, m.Killed, False, ()),
    ("/v1/sessions/{session_id}/processes/{pid}/stats", "get"): ("Watch a process", None, 200, m.Event, True, ("interval_s",)),
    ("/v1/sessions/{session_id}/metrics", "get"): ("What the session uses", None, 200, m.Metrics, False, ()),
    ("/v1/sessions/{session_id}/events", "get"): ("Follow a session", None, 200, m.Event, True, ("after",)),
    ("/v1/sessions/{session_id}/notebook", "get"): ("Export the session as a Jupyter notebook", None, 200, None, False, ("context",)),
    ("/v1/sessions/{session_id}/channel", "get"): ("One WebSocket for everything (docs/api.md)", None, 101, None, False, ("token",)),
    ("/v1/languages", "get"): ("List languages", None, 200, m.Languages, False, ()),
    ("/v1/openapi.json", "get"): ("This document", None, 200, None, False, ()),
    ("/health", "get"): ("Whether the service lives", None, 200, None, False, ()),
    ("/ready", "get"): ("Whether a session can be made at once", None, 200, None, False, ()),
    ("/metrics", "get"): ("Prometheus metrics", None, 200, None, False, ()),
}
_OPEN = ("/health", "/ready")
#: Its `get` is Tornado's own.
_CHANNEL = "/v1/sessions/{session_id}/channel"


@functools.cache
def document() -> dict[str, Any]:
    """The document. Raises KeyError where a route has no entry here, so that none can be forgotten (a test asks for it)."""
    kinds = [kind for _, request, _, answer, _, _ in _CALLS.values() for kind in (request, answer) if kind is not None]
    _, components = msgspec.json.schema_components(
        list(dict.fromkeys([*kinds, m.ErrorBody, m.Event, f.FileEvent])), ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for path, handler in (*NATIVE, *SERVICE):
        plain = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", path)
        for variant in _variants(plain):
            for method in ("get", "post", "put", "patch", "delete"):
                if method in vars(handler) or (method == "put" and hasattr(handler, "begin")) or (variant, method) == (_CHANNEL, "get"):
                    paths.setdefault(variant, {})[method] = _operation(variant, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "kernelgate", "version": kernelgate.__version__, "description": "Live, isolated Jupyter kernels over HTTP."},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }


def _variants(path: str) -> list[str]:
    """One route serves the three questions; the document names each."""
    return [path.replace("{kind}", kind) for kind in ("complete", "inspect", "is_complete")] if "{kind}" in path else [path]


def _operation(path: str, method: str) -> dict[str, Any]:
    summary, request, status, answer, streams, query = _CALLS[(path, method)]
    content: dict[str, Any] = {_JSON: {"schema": _ref(answer)}} if answer is not None and answer is not m.Event else {}
    if streams:
        content |= {_NDJSON: {"schema": _ref(m.Event)}, _SSE: {"schema": {"type": "string"}}}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in re.findall(r"{(\w+)}", path)
    ]
    parameters += [{"name": name, "in": "query", "required": False, "schema": {"type": "string"}} for name in query]
    made: dict[str, Any] = {
        "summary": summary,
        "operationId": f"{method}_{re.sub(r'[^a-z0-9]+', '_', path.lower()).strip('_')}",
        "parameters": parameters,
        "responses": {
            str(status): {"description": "Done", **({"content": content} if content else {})},
            "default": {"description": "An error", "content": {_JSON: {"schema": _ref(m.ErrorBody)}}},
        },
    }
    if request is not None:
        made["requestBody"] = {"required": request in (m.Execute, m.CreateContext, m.Stdin), "content": {_JSON: {"schema": _ref(request)}}}
    if path in _OPEN:
        made["security"] = []
    return made


def _ref(kind: Any) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
