"""`jupyter kernelgate`: how notebook clients are pointed at the server, or one of them run so."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from kernelgate.sdk import _discovery
from kernelgate.sdk.errors import KernelgateError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MANAGER = "jupyter_server.gateway.managers.GatewayKernelManager"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jupyter kernelgate",
        description="Notebook clients on kernelgate's kernels. Without a command: how to point each of them at the server. With one: runs it so, "
        "for example `jupyter kernelgate jupyter lab` or `jupyter kernelgate --kernel r papermill in.ipynb out.ipynb`.",
    )
    parser.add_argument("--url", help="the server; default: KERNELGATE_URL, else the one that runs here")
    parser.add_argument("--token", help="default: KERNELGATE_TOKEN, else this user's own")
    parser.add_argument("--kernel", help="the kernel for clients that always ask for python3")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a command and its arguments")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """3 where no server is known, 127 where there is no such command; else the command takes this process' place."""
    options = _parser().parse_args(argv)
    try:
        endpoint = _discovery.find(options.url, options.token)
        if endpoint.token is None:
            print("kernelgate: no token is known for this server; give --token (see `kernelgate token`)", file=sys.stderr)
            return 3
    except KernelgateError as exc:
        print(f"kernelgate: {exc}", file=sys.stderr)
        return 3
    path = f"{endpoint.url}/t/{endpoint.token}" + (f"/k/{options.kernel}" if options.kernel else "")
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        print(_how(endpoint.url, endpoint.token, path))
        return 0
    # By the environment: what stands in a command line is read by every user of this machine.
    environment = {**os.environ, "JUPYTER_GATEWAY_URL": path, "JUPYTER_GATEWAY_AUTH_TOKEN": endpoint.token}  # noqa: TID251 - what the command gets
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - the user's own command
    except OSError as exc:
        print(f"kernelgate: {command[0]}: {exc.strerror}", file=sys.stderr)
        return 127


def _how(url: str, token: str, path: str) -> str:
    return f"""JupyterLab         jupyter lab --gateway-url={url} --GatewayClient.auth_token={token}
VS Code            Select Kernel > Existing Jupyter Server > {url}/?token={token}
nbclient           JUPYTER_GATEWAY_URL={path}
                   NotebookClient(notebook, kernel_manager_class="{_MANAGER}")
papermill          JUPYTER_GATEWAY_URL={path}
                   papermill.execute_notebook(..., kernel_manager_class="{_MANAGER}")
kernel client      JupyterKernelClient(server_url="{url}", token="{token}")
services           ServerConnection.makeSettings({{baseUrl: "{url}", wsUrl: "{url.replace("http", "ws", 1)}", token: "{token}", appendToken: true}})"""
