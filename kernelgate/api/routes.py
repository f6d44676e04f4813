"""Which path goes to which handler."""

from __future__ import annotations

from typing import Any

from kernelgate.api import service
from kernelgate.api.native import channel, command, context, execution, files, notebook, process, session, shell, terminal

_S = r"/v1/sessions/(?P<session_id>[^/]+)"
_C = _S + r"/contexts/(?P<context>[^/]+)"
_E = _S + r"/executions/(?P<execution_id>[^/]+)"
_P = _S + r"/commands/(?P<command_id>[^/]+)"

NATIVE: tuple[tuple[str, Any], ...] = (
    (r"/v1/sessions", session.SessionsHandler),
    (_S, session.SessionHandler),
    (_S + "/keepalive", session.KeepaliveHandler),
    (_S + "/interrupt", session.InterruptHandler),
    (_S + "/contexts", context.ContextsHandler),
    (_C, context.ContextHandler),
    (_C + "/restart", context.RestartHandler),
    (_C + "/interrupt", session.InterruptHandler),
    (_C + "/(?P<kind>complete|inspect|is_complete)", context.QuestionHandler),
    (_S + "/executions", execution.ExecutionsHandler),
    (_E, execution.ExecutionHandler),
    (_E + "/cancel", execution.CancelHandler),
    (_E + "/stdin", execution.StdinHandler),
    (_S + "/commands", command.CommandsHandler),
    (_P, command.CommandHandler),
    (_P + "/stdin", command.CommandStdinHandler),
    (_P + "/signal", command.CommandSignalHandler),
    (_P + "/kill", command.CommandKillHandler),
    (_S + "/env", shell.EnvHandler),
    (_S + "/shells", shell.ShellsHandler),
    (_S + r"/shells/(?P<shell_id>[^/]+)", shell.ShellHandler),
    (_S + r"/shells/(?P<shell_id>[^/]+)/run", shell.ShellRunHandler),
    (_S + "/metrics", session.MetricsHandler),
    (_S + "/terminals", terminal.TerminalsHandler),
    (_S + r"/terminals/(?P<terminal_id>[^/]+)", terminal.TerminalHandler),
    (_S + r"/terminals/(?P<terminal_id>[^/]+)/input", terminal.TerminalInputHandler),
    (_S + r"/terminals/(?P<terminal_id>[^/]+)/resize", terminal.TerminalResizeHandler),
    (_S + r"/terminals/(?P<terminal_id>[^/]+)/signal", terminal.TerminalSignalHandler),
    (_S + "/processes", process.ProcessesHandler),
    (_S + "/processes/kill", process.ProcessKillHandler),
    (_S + "/processes/(?P<pid>[0-9]{1,10})/stats", process.ProcessStatsHandler),
    (_S + "/files", files.FilesHandler),
    (_S + "/files/stat", files.FileStatHandler),
    (_S + "/files/content", files.FileContentHandler),
    (_S + "/files/text", files.FileTextHandler),
    (_S + "/files/read", files.FileReadHandler),
    (_S + "/files/mkdir", files.FileMkdirHandler),
    (_S + "/files/move", files.FileMoveHandler),
    (_S + "/files/copy", files.FileCopyHandler),
    (_S + "/files/edit", files.FileEditHandler),
    (_S + "/files/search", files.FileSearchHandler),
    (_S + "/files/watch", files.FileWatchHandler),
    (_S + "/files/archive", files.FileArchiveHandler),
    (_S + "/events", execution.EventsHandler),
    (_S + "/notebook", notebook.NotebookHandler),
    (_S + "/channel", channel.ChannelHandler),
)

SERVICE: tuple[tuple[str, Any], ...] = (
    (r"/v1/languages", service.LanguagesHandler),
    (r"/v1/openapi.json", service.OpenapiHandler),
    (r"/health", service.HealthHandler),
    (r"/ready", service.ReadyHandler),
    (r"/metrics", service.MetricsHandler),
)
