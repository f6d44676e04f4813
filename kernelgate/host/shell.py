"""Shell sessions: commands one after the other, each of which finds the directory, the variables, the functions and the options that the one before left.

There is no process between two commands: what a shell is, is written down by bash itself when a command ends, and read by the next. So a shell outlives the host and whatever a
command does (`exit`, `exec`, a signal, its time limit: the state of before stays then), and each of its commands is a command like others.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kernelgate import ids
from kernelgate.errors import CapacityExceeded, ShellBusy, ShellNotFound
from kernelgate.protocol.result import timestamp

if TYPE_CHECKING:
    from kernelgate.host.server import Request
    from kernelgate.host.session import SessionHost

MAX_SHELLS = 64

#: $1: the file of the state, $2: the command. What bash sets by itself is not kept; what was unset stays unset.
_BASH = r"""
__kg_file=$1 __kg_command=$2 __kg_before=$(compgen -e)
shift 2
shopt -s expand_aliases
__kg_save() {
    local __kg_name
    set +eu +x 2>/dev/null
    {
        printf 'cd -- %q 2>/dev/null\n' "$PWD"
        for __kg_name in $(compgen -v); do
            case $__kg_name in
                __kg_* | BASH* | FUNCNAME | EUID | UID | PPID | GROUPS | DIRSTACK | PIPESTATUS | SHELLOPTS | LINENO | RANDOM | SRANDOM | SECONDS | EPOCH* | SHLVL | COMP_* | _) ;;
                *) declare -p "$__kg_name" ;;
            esac
        done
        for __kg_name in $__kg_before; do [[ -v $__kg_name ]] || printf 'unset -v %q\n' "$__kg_name"; done
        unset -f __kg_save
        declare -f
        alias -p
        shopt -p | grep -v ' login_shell$'
        printf '%s\n' "$__kg_options"
    } >"$__kg_file.new" 2>/dev/null && mv -f -- "$__kg_file.new" "$__kg_file"
    exit "$__kg_status"
}
trap '__kg_status=$?; __kg_options=$(set +o); __kg_save' EXIT
if [[ -r $__kg_file ]]; then . "$__kg_file" 2>/dev/null; fi
eval "$__kg_command"
"""


class Shells:
    """The shells of a session. They are kept where a new host finds them, with their environment."""

    def __init__(self, host: SessionHost, state: dict[str, Any]) -> None:
        self._host = host
        self.known: dict[str, dict[str, Any]] = state

    def _get(self, request: Request) -> dict[str, Any]:
        shell = self.known.get(str(request.fields["shell_id"]))
        if shell is None:
            raise ShellNotFound(f"there is no shell {request.fields['shell_id']!r} in this session")
        return shell

    def _file(self, shell_id: str) -> str:
        return f"{self._host.config['base_env']['TMPDIR']}/.kernelgate-shell-{shell_id}"

    def _current(self, shell_id: str) -> str | None:
        """The command that runs in it."""
        for command in self._host.commands.live.values():
            if command.tag["shell_id"] == shell_id and not command.ended:
                return command.id
        return None

    def describe(self, shell: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": shell["id"], "shell": shell["shell"], "cwd": shell["cwd"], "env_names": sorted(shell["env"]), "created_at": timestamp(shell["created"]),
            "command_id": self._current(shell["id"]),
        }  # fmt: skip

    def op_shells(self, request: Request) -> None:
        request.reply({"shells": [self.describe(shell) for shell in self.known.values()]})

    def op_shell(self, request: Request) -> None:
        request.reply(self.describe(self._get(request)))

    def op_shell_create(self, request: Request) -> None:
        fields = request.fields
        if len(self.known) >= MAX_SHELLS:
            raise CapacityExceeded(f"a session can have {MAX_SHELLS} shells; delete one first")
        made = {
            "id": ids.new_context_id(),
            "shell": fields["shell"],
            "cwd": self._host.resolve_cwd(fields["cwd"]),
            "env": fields["env"],
            "created": time.time(),
        }
        self.known[made["id"]] = made
        self._host.save_state()
        request.reply(self.describe(made))

    def op_shell_delete(self, request: Request) -> None:
        """Ends what runs in it, too."""
        shell = self._get(request)
        if (running := self._current(shell["id"])) is not None:
            self._host.commands.live[running].stop("killed", 1.0)
        del self.known[shell["id"]]
        self._host.save_state()
        name = self._file(shell["id"])
        self._host.run_aside(["/bin/rm", "-f", "--", name, f"{name}.new"])
        request.reply({})

    def op_shell_run(self, request: Request) -> None:
        """Runs a command in a shell; answers as `command` does."""
        shell, fields, commands = self._get(request), request.fields, self._host.commands
        if fields["command_id"] not in self._host.journal.spans:
            if (running := self._current(shell["id"])) is not None:
                raise ShellBusy(f"the shell runs command {running!r}; wait for its end, or kill it")
            fields["env"] = {**shell["env"], **fields["env"]}
            fields["cwd"] = shell["cwd"]
        argv = ["/bin/bash", "--noprofile", "--norc", "-c", _BASH, "bash", self._file(shell["id"]), fields["command"]]
        commands.begin(request, argv)
