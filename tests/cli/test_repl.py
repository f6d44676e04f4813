"""`kernelgate repl` at a real terminal."""

import re
import sys
import time
from pathlib import Path

import pexpect
import pyte
import pytest

pytestmark = [pytest.mark.sandbox]


class Terminal(pyte.Screen):
    """A screen that answers the questions terminals are asked: where the cursor is, and, unless it is late, what it is."""

    def __init__(self, answer, is_late):
        super().__init__(120, 200)
        self._answer, self.is_late, self.attributes = answer, is_late, ""

    def write_process_input(self, data):
        if data.endswith("c"):
            self.attributes = data
        if not (data.endswith("c") and self.is_late):
            self._answer(data)


class Prompt:
    """The prompt in a terminal of its own. Steps wait for what the screen shows."""

    def __init__(self, environment, directory, *arguments, is_late=False):
        self.language = arguments[arguments.index("-l") + 1] if "-l" in arguments else "python"
        self.raw = ""
        self._process = pexpect.spawn(
            sys.executable,
            ["-m", "kernelgate", "repl", *arguments],
            env=environment,
            cwd=str(directory),
            encoding="utf-8",
            dimensions=(200, 120),
        )
        self.screen = Terminal(self._process.send, is_late)
        self._stream = pyte.Stream(self.screen)
        self.until_ready()

    @property
    def lines(self):
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def until(self, is_there):
        """Reads until the lines on the screen are as wanted; those lines."""
        give_up_at = time.monotonic() + 60
        while not is_there(self.lines):
            assert time.monotonic() < give_up_at, "\n".join(["not shown in time:", *self.lines])
            self._read()
        return self.lines

    def until_line(self, pattern):
        return self.until(lambda lines: any(re.fullmatch(pattern, line) for line in lines))

    def until_ready(self):
        """Waits for an empty prompt at the end of what is shown."""
        return self.until(lambda lines: bool(lines) and lines[-1] == f"{self.language}>")

    def type(self, text):
        self._process.send(text)

    def enter(self, line):
        """Types a line, sees it, and presses Enter."""
        self.type(line)
        # Behind it may stand, in grey, what history suggests.
        self.until(lambda lines: line.rstrip() in lines[-1])
        self.type("\r")

    def run(self, line):
        """Enters a line and waits for the next prompt; what is shown between the two."""
        before = len(self.lines)
        self.enter(line)
        return self.until(lambda lines: len(lines) > before and lines[-1] == f"{self.language}>")[before:-1]

    def leave(self):
        self.type("\x04")
        give_up_at = time.monotonic() + 30
        while self._process.isalive():
            assert time.monotonic() < give_up_at
            self._read()
        self._process.close()
        return self._process.exitstatus

    def close(self):
        self._process.close(force=True)

    def _read(self):
        try:
            text = self._process.read_nonblocking(65536, timeout=0.2)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self.raw += text
        # Pictures are nothing that this screen knows.
        self._stream.feed(re.sub(r"\x1b_G.*?\x1b\\\\", "", text))


@pytest.fixture
def prompt(environment, tmp_path):
    made = []

    def start(*arguments, is_late=False, **changes):
        made.append(Prompt({**environment, **changes}, tmp_path, *arguments, is_late=is_late))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.mark.python
def test_variables_stay_and_ctrl_d_leaves(prompt, client):
    before = {session.id for session in client.sessions.list()}
    repl = prompt()
    assert repl.run("x = 6 * 7") == []
    assert repl.run("x") == ["42"]
    assert repl.leave() == 0
    assert {session.id for session in client.sessions.list()} == before


@pytest.mark.python
def test_a_block_goes_on_until_it_is_complete(prompt):
    repl = prompt()
    repl.enter("def f(n):")
    repl.until(lambda lines: lines[-1].endswith("..."))
    repl.enter("return n * 2")
    repl.until(lambda lines: lines[-1].endswith("..."))
    repl.type("\r")
    repl.until_ready()
    assert repl.run("f(21)") == ["42"]
    assert "    ...     return n * 2" in repl.lines


@pytest.mark.python
def test_what_a_terminal_says_too_late_is_not_taken_for_typing(prompt):
    repl = prompt(is_late=True)
    assert repl.screen.attributes.startswith("\x1b[?")  # it was asked
    repl.type("6 * ")
    repl.until_line(r"python> 6 \*")
    repl.type(repl.screen.attributes + "7")
    repl.until_line(r"python> 6 \* 7")
    repl.type("\r")
    repl.until_line("42")
    # Nor by what code asks for.
    repl.type("input('name: ')\r")
    repl.until_line("name:")
    repl.type(repl.screen.attributes + "Eve\r")
    repl.until_line("'Eve'")


@pytest.mark.python
def test_tab_completes_from_the_kernel(prompt):
    repl = prompt()
    repl.run("a = number_of_things = 5")
    repl.type("number_of_t\t")
    repl.until_line("python> number_of_things")
    repl.type(" + 1\r")
    repl.until_line("6")


@pytest.mark.python
def test_ctrl_c_belongs_to_the_code_and_the_prompt_stays(prompt):
    repl = prompt()
    repl.run("x = 5")
    repl.enter("import time; print('be' 'gun'); time.sleep(60)")
    repl.until_line("begun")
    repl.type("\x03")
    shown = repl.until_ready()
    assert any("KeyboardInterrupt" in line for line in shown)
    assert not any("^C" in line for line in shown)
    assert repl.run("x + 1") == ["6"]
    repl.type("half a line")
    repl.until_line("python> half a line")
    repl.type("\x03")
    repl.until_ready()
    assert repl.leave() == 0


@pytest.mark.python
def test_questions_are_asked_at_the_prompt(prompt):
    repl = prompt()
    repl.enter("'hello ' + input('who? ')")
    repl.until_line(r"who\?")
    repl.enter("Ada")
    repl.until_line("'hello Ada'")
    repl.until_ready()
    repl.enter("input('again? ')")
    repl.until_line(r"again\?")
    repl.type("\x04")
    assert any("KeyboardInterrupt" in line for line in repl.until_ready())


@pytest.mark.python
def test_a_long_cell_tells_its_time(prompt):
    repl = prompt()
    repl.enter("import time; time.sleep(2.5)")
    repl.until_line(r"running \d\.\d s")
    assert re.fullmatch(r"\[2\.\d s\]", repl.until_ready()[-2])
    assert not any(line.startswith("running") for line in repl.lines)


@pytest.mark.python
def test_pictures_are_saved_where_the_terminal_cannot_show_them(prompt, tmp_path):
    assert prompt().run("import matplotlib.pyplot as plt; plt.plot([1]); plt.show()") == ["[saved python-1.png]"]
    assert (tmp_path / "python-1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.python
def test_pictures_are_shown_where_the_terminal_can(prompt, tmp_path):
    repl = prompt(TERM="xterm-kitty")
    repl.run("import matplotlib.pyplot as plt; plt.plot([1]); plt.show()")
    assert "\x1b_Ga=T,f=100,m=1;iVBOR" in repl.raw
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.python
def test_history_is_kept_for_its_owner(prompt, environment):
    repl = prompt()
    repl.run("'from the first'")
    repl.leave()
    (file,) = (one for one in Path(environment["XDG_STATE_HOME"]).rglob("*") if one.is_file())
    assert file.stat().st_mode & 0o077 == 0
    again = prompt()
    again.type("\x1b[A")
    again.until_line("python> 'from the first'")


@pytest.mark.python
def test_a_session_that_is_named_is_kept(prompt, client):
    with client.sessions.create() as session:
        repl = prompt("--session", session.id)
        repl.run("x = 5")
        assert repl.leave() == 0
        assert session.code.run("x").result == "5"


@pytest.mark.parametrize(
    ("language", "define", "use", "loop"),
    [
        pytest.param("bash", "x=21", "echo $((x * 2))", "echo be''gun; sleep 60", marks=pytest.mark.bash),
        pytest.param("javascript", "var x = 21", "x * 2", "console.log('be' + 'gun'); while (true);", marks=pytest.mark.javascript),
        pytest.param("r", "x <- 21", "cat(x * 2)", "cat('be', 'gun\\n', sep = ''); Sys.sleep(60)", marks=pytest.mark.r),
        pytest.param(
            "java", "int x = 21;", "x * 2", 'System.out.println("be" + "gun"); while (true) Thread.sleep(10);', marks=pytest.mark.java
        ),
        pytest.param("typescript", "let x: number = 21", "x * 2", "console.log('be' + 'gun'); while (true);", marks=pytest.mark.typescript),
    ],
)
def test_every_language_has_its_prompt(prompt, language, define, use, loop):
    repl = prompt("-l", language)
    repl.run(define)
    assert repl.run(use) == ["42"]
    repl.enter(loop)
    repl.until_line("begun")
    repl.type("\x03")
    repl.until_ready()
    assert repl.run(use) == ["42"]
    assert repl.leave() == 0
