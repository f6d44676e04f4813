from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys

import msgspec
import pytest

from kernelgate import settings
from kernelgate.errors import ConfigError


def load(tmp_path, toml=None, environ=None, **flags):
    config = None
    if toml is not None:
        config = str(tmp_path / "settings.toml")
        (tmp_path / "settings.toml").write_text(toml)
    return settings.load(config=config, environ=environ or {}, flags={name.replace("__", "."): value for name, value in flags.items()})


def test_defaults(tmp_path):
    made = load(tmp_path)
    assert (made.server.host, made.server.max_body_bytes, made.executions.timeout_s) == ("127.0.0.1", 16 * 1024 * 1024, 60.0)
    assert (made.executions.max_timeout_s, made.sessions.idle_timeout_s) == (None, 600.0)
    assert (made.executions.max_output_bytes, made.executions.max_result_bytes) == (10 * 1024 * 1024, 50 * 1024 * 1024)
    assert made.data_dir.startswith("/")


def test_each_source_beats_the_one_before(tmp_path):
    toml = "data_dir = '/from/file'\n[server]\nport = 1\nhost = 'file'\n[executions]\nmax_timeout_s = 5"
    made = load(tmp_path, toml)
    assert (made.data_dir, made.server.port, made.server.host, made.executions.max_timeout_s) == ("/from/file", 1, "file", 5.0)
    environ = {
        "KERNELGATE_SERVER_PORT": "2",
        "KERNELGATE_EXECUTIONS_MAX_TIMEOUT_S": "none",
        "PATH": "/bin",
        "KERNELGATE_URL": "http://x",
        "KERNELGATE_TOKEN": "kg_x",
    }
    made = load(tmp_path, toml, environ)
    assert (made.server.port, made.server.host, made.executions.max_timeout_s) == (2, "file", None)
    made = load(tmp_path, toml, environ, server__port="3", data_dir="relative")
    assert (made.server.port, made.data_dir.startswith("/"), made.data_dir.endswith("/relative")) == (3, True, True)


def test_the_file_may_be_named_in_the_environment(tmp_path):
    (tmp_path / "k.toml").write_text("log_level = 'DEBUG'")
    assert settings.load(environ={"KERNELGATE_CONFIG": str(tmp_path / "k.toml")}).log_level == "DEBUG"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("server.allowed_hosts", "a.example, b.example,", ("a.example", "b.example")),
        ("server.allowed_hosts", "", ()),
        ("sessions.lifetime_s", "none", None),
        ("sessions.lifetime_s", "12.5", 12.5),
        ("sessions.pool_size", "0", 0),
        ("sandbox.kind", "none", "none"),
        ("sandbox.memory_bytes", "None", None),
        ("python.preload", "numpy", ("numpy",)),
    ],
)
def test_text_becomes_what_it_should_be(tmp_path, key, text, value):
    section, name = key.split(".")
    for made in (settings.load(environ={}, flags={key: text}), settings.load(environ={f"KERNELGATE_{section}_{name}".upper(): text})):
        assert getattr(getattr(made, section), name) == value


@pytest.mark.parametrize(
    ("toml", "environ", "flags", "said"),
    [
        ("[server]\nprot = 1", {}, {}, "server.prot"),
        ("[server]\nprot = 1", {}, {}, "did you mean server.port?"),
        ("[servre]\nport = 1", {}, {}, "servre"),
        ("server = 5", {}, {}, "server"),
        ("prot = 1", {}, {}, "prot"),
        ("[server\n", {}, {}, "not TOML"),
        (None, {"KERNELGATE_SERVER_PROT": "1"}, {}, "did you mean KERNELGATE_SERVER_PORT?"),
        (None, {"KERNELGATE_PORT": "1"}, {}, "KERNELGATE_PORT"),
        (None, {}, {"server__prot": "1"}, "server.prot"),
        (None, {"KERNELGATE_SERVER_PORT": "many"}, {}, "KERNELGATE_SERVER_PORT"),
        ("[server]\nport = 'x'", {}, {}, "server.port"),
        ("[server]\nport = true", {}, {}, "server.port"),
        ("[server]\nallowed_hosts = 5", {}, {}, "server.allowed_hosts"),
        ("[server]\nallowed_hosts = [5]", {}, {}, "server.allowed_hosts"),
        (None, {}, {"server__port": "-1"}, "server.port"),
        (None, {}, {"server__port": "65536"}, "server.port"),
        (None, {}, {"server__port": "none"}, "server.port"),
        (None, {}, {"sandbox__kind": "docker"}, "namespaces"),
        (None, {}, {"log_level": "loud"}, "WARNING"),
        (None, {}, {"executions__timeout_s": "0"}, "executions.timeout_s"),
        (None, {}, {"executions__timeout_s": "nan"}, "executions.timeout_s"),
        (None, {}, {"executions__max_timeout_s": "-1"}, "executions.max_timeout_s"),
        (None, {}, {"sessions__pool_size": "-1"}, "0 or more"),
        (None, {}, {"sessions__idle_timeout_s": "inf"}, "sessions.idle_timeout_s"),
        (None, {}, {"sandbox__memory_bytes": "0"}, "sandbox.memory_bytes"),
        (None, {}, {"server__keepalive_s": "0"}, "server.keepalive_s"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, toml, environ, flags, said):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml, environ, **flags)
    assert said in caught.value.detail


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        settings.load(config=str(tmp_path / "nothing.toml"), environ={})


def test_every_setting_has_a_line_of_help():
    for struct in (settings.Settings, *settings.SECTIONS.values()):
        (tree,) = ast.parse(inspect.getsource(struct)).body
        documented = {
            before.target.id
            for before, after in zip(tree.body, tree.body[1:], strict=False)
            if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        }
        wanted = {field.name for field in msgspec.structs.fields(struct)} - set(settings.SECTIONS)
        assert wanted <= documented, struct.__name__


def test_settings_cannot_be_changed(tmp_path):
    made = load(tmp_path)
    with pytest.raises(AttributeError):
        made.server.port = 5


def serve(*arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "kernelgate", "serve", *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environ},
        check=False,
    )


def test_the_command_shows_what_is_in_force(tmp_path):
    (tmp_path / "k.toml").write_text("[sessions]\npool_size = 7\n[server]\nhost = 'file.example'")
    done = serve(
        "--config",
        str(tmp_path / "k.toml"),
        "--port",
        "1234",
        "--set",
        "executions.max_timeout_s=9",
        "--print-config",
        KERNELGATE_SERVER_HOST="env.example",
        KERNELGATE_DATA_DIR=str(tmp_path),
    )
    shown = json.loads(done.stdout)
    assert (
        shown["sessions"]["pool_size"],
        shown["server"]["host"],
        shown["server"]["port"],
        shown["executions"]["max_timeout_s"],
        shown["data_dir"],
    ) == (7, "env.example", 1234, 9.0, str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (("--set", "server.prot=1"), {}),
        (("--set", "server.port"), {}),
        (("--port", "x"), {}),
        ((), {"KERNELGATE_SERVER_PROT": "1"}),
        (("--config", "/nothing.toml"), {}),
    ],
)
def test_the_command_refuses_to_start_with_wrong_settings(arguments, environ):
    done = serve(*arguments, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kernelgate: ")
    assert "Traceback" not in done.stderr
