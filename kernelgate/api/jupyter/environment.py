"""The environment that gateway clients send with a kernel: what is honoured, what is refused, and what is theirs alone."""

from __future__ import annotations

import posixpath

from kernelgate.errors import InvalidRequest

#: In bytes, of all names and values.
_MAX_BYTES = 256 * 1024
#: What other gateways take as orders to them about the place where a kernel runs. Here the operator decides on that, and a caller who believes otherwise should hear of it.
_REFUSED = {
    "KERNEL_UID": "kernels run as users of their own",
    "KERNEL_GID": "kernels run as users of their own",
    "KERNEL_IMAGE": "kernels run in this server's sandbox",
    "KERNEL_EXECUTOR_IMAGE": "kernels run in this server's sandbox",
    "KERNEL_NAMESPACE": "kernels run on this server",
    "KERNEL_POD_NAME": "kernels run on this server",
    "KERNEL_SERVICE_ACCOUNT_NAME": "kernels run on this server",
    "KERNEL_REMOTE_HOST": "kernels run on this server",
    "KERNEL_VOLUMES": "nothing of this server can be mounted",
    "KERNEL_VOLUME_MOUNTS": "nothing of this server can be mounted",
    "KERNEL_CPUS": "limits are set by this server (sandbox.cpu)",
    "KERNEL_CPUS_LIMIT": "limits are set by this server (sandbox.cpu)",
    "KERNEL_MEMORY": "limits are set by this server (sandbox.memory_bytes)",
    "KERNEL_MEMORY_LIMIT": "limits are set by this server (sandbox.memory_bytes)",
    "KERNEL_GPUS": "kernels have no GPU here",
    "KERNEL_GPUS_LIMIT": "kernels have no GPU here",
}
#: The client's own affairs, and what is not the kernel's to know.
_LEFT_OUT = frozenset({"KERNEL_LAUNCH_TIMEOUT", "KERNEL_WORKING_DIR", "KERNEL_ID", "KERNEL_PATH", "PATH"})


def directory(env: dict[str, str], workspace: str) -> str | None:
    """Where the kernel shall work: None is the workspace itself, which it is too where the client names a directory of its own machine."""
    wanted = posixpath.normpath(posixpath.join(workspace, env.get("KERNEL_WORKING_DIR") or "."))
    return wanted if wanted.startswith(workspace + "/") else None


def split(env: dict[str, str]) -> tuple[dict[str, str], str | None]:
    """The variables of the kernel, and the id that it shall have. Raises InvalidRequest with the name that is refused, and why."""
    for name, value in env.items():
        if name in _REFUSED:
            raise InvalidRequest(f"env: {name} is refused: {_REFUSED[name]}", code="refused_env")
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise InvalidRequest(f"env: {name!r} cannot be a variable, or its value has a NUL character", code="invalid_env")
    try:
        size = sum(len(name.encode()) + len(value.encode()) + 2 for name, value in env.items())
    except UnicodeEncodeError as exc:
        raise InvalidRequest("env: names and values must be Unicode text", code="invalid_env") from exc
    if size > _MAX_BYTES:
        raise InvalidRequest(f"env: {size} bytes are too many, {_MAX_BYTES} are allowed", code="invalid_env")
    return {name: value for name, value in env.items() if name not in _LEFT_OUT}, env.get("KERNEL_ID") or None
