"""What every test may lean on, and the rule that coverage cannot vanish quietly.

A test marked with a language (or with `sandbox`) is skipped where that is not to be had: on a laptop, say. `--require=python,sandbox` turns that skip, and any
other skip of such a test, into a failure; CI passes it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Iterator

import hypothesis
import pytest

from kernelgate import languages
from tests.support.server import AS_SHIPPED, Api, Server

# No assertion on timing, here as elsewhere: a busy machine is no failure.
hypothesis.settings.register_profile("kernelgate", deadline=None)
hypothesis.settings.load_profile("kernelgate")

LANGUAGE_MARKERS = ("python", "javascript", "typescript", "r", "java", "bash")
REQUIRABLE = (*LANGUAGE_MARKERS, "sandbox")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default="",
        metavar="NAME[,NAME...]",
        help=f"fail, rather than skip, what needs these: {', '.join(REQUIRABLE)}",
    )


def pytest_configure(config: pytest.Config) -> None:
    required = {name.strip() for name in config.getoption("--require").split(",") if name.strip()}
    if unknown := sorted(required - set(REQUIRABLE)):
        raise pytest.UsageError(f"--require: {', '.join(unknown)} is not one of {', '.join(REQUIRABLE)}")
    config.stash[_REQUIRED] = required


_REQUIRED = pytest.StashKey[set[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    used = {name for name in REQUIRABLE for item in items if item.get_closest_marker(name)}
    absent = {name: why for name in used if (why := _why_absent(name))}
    if broken := [f"{name}: {absent[name]}" for name in sorted(absent.keys() & config.stash[_REQUIRED])]:
        raise pytest.UsageError(f"required, and not to be had here: {'; '.join(broken)}")
    for item in items:
        for name, why in absent.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"{name}: {why}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        required = sorted(name for name in item.config.stash[_REQUIRED] if item.get_closest_marker(name))
        if required:
            report.outcome = "failed"
            report.longrepr = f"skipped, although --require={','.join(required)} was given: {report.longrepr}"
    return report


def _why_absent(name: str) -> str | None:
    if name == "sandbox":
        return _why_no_sandbox()
    language = languages.load().get(name)
    if language is None:
        return "no such kernelspec"
    return None if language.ready else f"missing: {', '.join(language.missing)} (`{language.install_command}`)"


def _why_no_sandbox() -> str | None:
    # The namespaces of a session, and a mount inside them: what the zygote needs the right to do.
    try:
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "mount", "-t", "tmpfs", "none", "/tmp"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    return None if done.returncode == 0 else done.stderr.strip()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real gateway for all tests that leave it as it is. What it leaves behind is an error of the last test that used it."""
    made = Server(tmp_path_factory.mktemp("kernelgate") / "data", "sessions.pool_size=2", AS_SHIPPED)
    with made:
        yield made
    assert made.leftovers() == []


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    """The native API of the shared gateway."""
    with server.api() as made:
        yield made


@pytest.fixture(scope="module")
def session(server: Server) -> Iterator[str]:
    """A session that the tests of a module share, where what one leaves in it does not matter to the next."""
    with server.api() as api:
        made = api.create()
        yield made
        api.delete(made)
