"""Which path of this door goes to which handler."""

from __future__ import annotations

from typing import Any

from kernelgate.api.jupyter import channels, document, kernel, service, spec
from kernelgate.api.jupyter.handler import KERNEL_ID, KERNEL_NAME, PREFIX

_PATHS: tuple[tuple[str, Any], ...] = (
    (r"/api", service.VersionHandler),
    (r"/api/me", service.MeHandler),
    (r"/api/status", service.StatusHandler),
    (r"/api/spec.yaml", service.SpecHandler),
    (r"/api/kernelspecs", spec.SpecsHandler),
    (rf"/api/kernelspecs/{KERNEL_NAME}", spec.SpecHandler),
    (rf"/kernelspecs/{KERNEL_NAME}/(?P<file>[^/]+)", spec.ResourceHandler),
    (r"/api/kernels", kernel.KernelsHandler),
    (rf"/api/kernels/{KERNEL_ID}", kernel.KernelHandler),
    (rf"/api/kernels/{KERNEL_ID}/(?P<action>interrupt|restart)", kernel.KernelActionHandler),
    (rf"/api/kernels/{KERNEL_ID}/channels", channels.ChannelsHandler),
    (r"/api/sessions", document.DocumentsHandler),
    (r"/api/sessions/(?P<session_id>[^/]+)", document.DocumentHandler),
    (r"/tree", service.FrontPageHandler),
)

JUPYTER: tuple[tuple[str, Any], ...] = (
    *((PREFIX + path, handler) for path, handler in _PATHS),
    (r"", service.RootHandler),
    (r"/t/(?P<path_token>[^/]+)(?:/k/(?P<path_kernel>[^/]+))?", service.FrontPageHandler),
    (PREFIX + r"/(?:api|kernelspecs)(?:/.*)?", service.NowhereHandler),
    (r"/t/(?P<path_token>[^/]+)/.*", service.NowhereHandler),
)
