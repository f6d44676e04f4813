"""What a session's network needs of the machine, and what is said where that is not there."""

from __future__ import annotations

import pytest

from kernelgate import settings
from kernelgate._aio import Tasks
from kernelgate.errors import ConfigError
from kernelgate.sandbox import network
from kernelgate.sessions.node import Node


def node(**flags):
    given = {name.replace("__", "."): value for name, value in flags.items()}
    return Node(settings.load(environ={}, flags=given), Tasks(), lambda _: None)


def test_what_is_missing_is_named_with_its_package(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert network.missing() == ["passt", "iproute2"]
    wanting = node(sandbox__network=True)
    assert wanting.network == "unavailable: it needs passt and iproute2 (Debian), which `kernelgate setup` installs"
    assert any("passt" in warning for warning in wanting.warnings())
    assert node().network == "none"
    assert "sandbox.kind" in node(sandbox__network=True, sandbox__kind="none").network


def test_the_resolver(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "_RESOLVERS", (str(tmp_path / "first"), str(tmp_path / "second")))
    assert network.resolver("") is None
    (tmp_path / "first").write_text("# ours\nsearch example\nnameserver 127.0.0.53\nnameserver ::1\n")
    assert network.resolver("") is None
    (tmp_path / "second").write_text("nameserver 2001:db8::1\nnameserver 198.51.100.7\nnameserver 198.51.100.8\n")
    assert network.resolver("") == "198.51.100.7"
    assert network.resolver("203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize(("name", "value"), [("network_denied", "10.0.0.1/8"), ("network_denied", "here"), ("network_resolver", "::1")])
def test_wrong_settings(name, value):
    with pytest.raises(ConfigError, match=name):
        settings.load(environ={}, flags={f"sandbox.{name}": value})
