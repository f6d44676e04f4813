"""JupyterLab in a browser, used as a person would: run by build/browser's Python, which has Playwright. Standard output is lines of JSON: {"ask": ...}, after which a line
on standard input is waited for, and at last {"ok": true}. Screenshots go to the directory given.

    drive.py URL-OF-THE-NOTEBOOK CHROMIUM DIRECTORY
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from playwright.sync_api import Locator, Page, expect, sync_playwright

PATIENCE_MS = 90_000


class Notebook:
    """The open notebook's cells by number, from 0."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def cell(self, number: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def output(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-OutputArea-output")

    def start(self, number: int) -> None:
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def run(self, number: int, count: int) -> None:
        """Runs a cell to its end: `count` is the number that it then has."""
        self.start(number)
        self.finish(number, count)

    def finish(self, number: int, count: int) -> None:
        expect(self.cell(number).locator(".jp-InputPrompt")).to_have_text(f"[{count}]:")


def ask(what: str) -> None:
    print(json.dumps({"ask": what}), flush=True)
    assert sys.stdin.readline()


def drive(page: Page, url: str, directory: Path) -> None:
    heard = []
    page.on("websocket", lambda opened: opened.on("framereceived", lambda _: heard.append(opened.url)))
    page.goto(url)
    notebook = Notebook(page)
    # The first handshake with a server that has a gateway behind it fails, since that offers no subprotocol; what is run before the second one is lost.
    while not any("/channels" in socket for socket in heard):
        page.wait_for_timeout(100)
    expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_be_visible()

    page.keyboard.press("Control+b")  # the list of files goes
    notebook.run(0, 1)
    picture = notebook.output(0).locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 100

    notebook.run(1, 2)
    handle, shown = notebook.output(1).locator(".noUi-handle"), notebook.output(1).locator(".widget-readout")
    expect(shown).to_have_text("3")
    box, rail = handle.bounding_box(), notebook.output(1).locator(".noUi-target").bounding_box()
    assert box
    assert rail
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(rail["x"] + rail["width"] * 0.7, rail["y"] + rail["height"] / 2, steps=10)
    page.mouse.up()
    expect(shown).not_to_have_text("3")
    value = shown.inner_text()
    notebook.run(2, 3)
    expect(notebook.output(2)).to_have_text(f"the kernel has {value}")
    page.screenshot(path=directory / "widget.png")

    notebook.start(3)
    expect(notebook.output(3)).to_contain_text("step 3")
    ask("kill the gateway")
    page.screenshot(path=directory / "killed.png")
    ask("start the gateway")
    notebook.finish(3, 4)
    expect(notebook.output(3)).to_contain_text("step 59")
    steps = list(dict.fromkeys(re.findall(r"step (\d+)", notebook.output(3).inner_text())))
    assert steps == [str(step) for step in range(60)], steps

    notebook.run(4, 5)
    expect(notebook.output(4)).to_have_text(f"still {value}, and 41 + 1 is 42")
    handle.focus()
    page.keyboard.press("ArrowRight")
    expect(shown).to_have_text(str(int(value) + 1))
    notebook.run(5, 6)
    expect(notebook.output(5)).to_have_text(f"and now {int(value) + 1}")
    page.screenshot(path=directory / "returned.png")


def main() -> int:
    url, chromium, directory = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 920, "height": 1020})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        page.on("console", lambda message: print(time.strftime("%H:%M:%S"), message.type, message.text, file=sys.stderr))
        try:
            drive(page, url, Path(directory))
        except BaseException:
            page.screenshot(path=Path(directory) / "failed.png")
            raise
        finally:
            browser.close()
    print(json.dumps({"ok": True}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
