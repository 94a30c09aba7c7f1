"""Takes pictures of the page of `infarct serve`, in two widths, light and dark.

    python benchmarks/serve_pictures.py RESULT OUT [--more RESULT ...]

RESULT is a result folder, for example of `infarct demo`; it is copied. `--more` adds results, such
as real scans, whose pictures must stay on this computer.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from infarct.core import assets

TOKEN = "a-token-for-pictures"
ARGUMENTS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
LOOKS = [f"{width}-{scheme}" for width in (1280, 800) for scheme in ("light", "dark")]
SCANS = 20
PATIENCE_MS = 180_000
"""Drawing in software on a busy machine is slow; whatever takes longer is a fault."""


@contextmanager
def server(root: Path) -> Iterator[str]:
    """Serve a folder, and yield the link."""
    command = [sys.executable, "-m", "infarct", "serve", str(root), "--no-browser", "--port", "0"]
    with subprocess.Popen(
        [*command, "--token", TOKEN, "--model", "cfuzzy"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("open: "))
        yield line.removeprefix("open: ").strip()
        process.terminate()


class Photographer:
    """Takes a picture of one page in every look."""

    def __init__(self, browser: Browser, out: Path, looks: list[str]) -> None:
        self.browser = browser
        self.out = out
        self.looks = [(int(width), scheme) for width, scheme in (each.split("-") for each in looks)]

    @contextmanager
    def page(self, link: str, width: int = 1280, scheme: str = "light") -> Iterator[Page]:
        """Open the page."""
        context = self.browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        opened = context.new_page()
        opened.set_default_timeout(PATIENCE_MS)
        opened.goto(link)
        yield opened
        context.close()

    def take(self, name: str, page: Page, width: int, scheme: str) -> None:
        """Save a picture of what is visible."""
        page.wait_for_timeout(800)
        page.screenshot(path=self.out / f"{name}-{width}-{scheme}.png")
        print(name, width, scheme, flush=True)

    def everywhere(self, name: str, link: str, prepare: Any) -> None:
        """Take the picture in every look."""
        for width, scheme in self.looks:
            with self.page(link, width, scheme) as page:
                prepare(page)
                self.take(name, page, width, scheme)


def choose(page: Page, files: list[Path]) -> None:
    """Choose files as the user does."""
    page.wait_for_selector(".drop")
    page.set_input_files("#files", [str(file) for file in files])


def refused(page: Page) -> None:
    """Upload a DWI without b0."""
    choose(page, [assets.path("demo/dwi")])
    page.wait_for_selector(".refused")


def worklist(page: Page) -> None:
    """Wait for the thumbnails in view."""
    page.wait_for_selector("tbody tr")
    page.wait_for_function(
        """[...document.querySelectorAll("img.thumbnail")]
            .filter((each) => each.getBoundingClientRect().top < innerHeight)
            .every((each) => each.complete && each.naturalWidth)"""
    )


def open_scan(name: str) -> Any:
    """Return a function that opens a scan."""

    def prepare(page: Page) -> None:
        page.click(f"table.worklist th a:text-is('{name}')")
        page.wait_for_selector(".tools, .stage .warning")
        page.wait_for_function("document.querySelector('.where')?.value")

    return prepare


def editing(page: Page) -> None:
    """Draw from the centre of the lesion beyond its border."""
    open_scan("demo")(page)
    page.keyboard.press("b")
    for _ in range(4):
        page.keyboard.press("+")
    # Inside the lesion the brush changes nothing.
    for _ in range(40):
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Space")
        if page.locator("button.main:has-text('Save'):enabled").count():
            break
    else:
        raise RuntimeError("the brush changed nothing")


def all_images(page: Page) -> None:
    """Show the four images."""
    open_scan("demo")(page)
    page.keyboard.press("5")
    page.wait_for_selector(".images[data-show=all]")


def save(page: Page) -> None:
    """Save the edit, so that there is an audit trail."""
    editing(page)
    page.keyboard.press("Control+s")
    page.fill("#ask-by", "A. Reader")
    page.fill("#ask-reason", "Part of the infarct was missed")
    page.click("dialog button.main")
    page.wait_for_selector(".audit")


def read(page: Page, reader: str, steps: int) -> None:
    """Start a blinded reading, draw, and submit."""
    open_scan("read-twice")(page)
    page.click(".panel button:has-text('reading…')")
    page.fill("#ask-reader", reader)
    page.click("dialog button.main")
    page.wait_for_selector("text=Blinded reading")
    page.wait_for_function("document.querySelector('.where')?.value")
    page.keyboard.press("b")
    for key in ("+",) * 12 + ("Space",) + ("ArrowLeft", "Space") * steps:
        page.keyboard.press(key)


def submit(page: Page, reader: str) -> None:
    """Submit the reading."""
    page.click("text=Submit the reading")
    page.click("dialog button.main")
    page.wait_for_selector(f"text={reader}: submitted")


def photograph(options: argparse.Namespace, root: Path) -> None:
    """Take all pictures."""
    result, more = options.result, options.more
    with sync_playwright() as play:
        arguments = [*ARGUMENTS, "--no-sandbox"]
        browser = play.chromium.launch(
            executable_path=os.environ.get("INFARCT_CHROMIUM") or shutil.which("chromium"),
            args=arguments,
        )
        camera = Photographer(browser, options.out, options.looks)
        with server(root) as link:
            camera.everywhere("empty", link, lambda page: page.wait_for_selector(".note"))
            camera.everywhere("refused", link, refused)
            with camera.page(link) as page:
                choose(page, [assets.path(f"demo/{role}") for role in ("dwi", "b0")])
                page.wait_for_selector("img.preview")
                for width, scheme in camera.looks:
                    page.set_viewport_size({"width": width, "height": 900})
                    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                    camera.take("running", page, width, scheme)
        names = ["demo", "read-twice", *(f"real-{n}" for n in range(1, len(more) + 1))]
        sources = [result, result, *more]
        names += [f"case-{n}" for n in range(1, SCANS - len(names) + 1)]
        for number, name in enumerate(names):
            source = sources[number] if number < len(sources) else sources[number % len(sources)]
            shutil.copytree(source, root / name)
        with server(root) as link:
            camera.everywhere("worklist", link, worklist)
            camera.everywhere("viewer", link, open_scan("demo"))
            camera.everywhere("images", link, all_images)
            for number in range(1, len(more) + 1):
                camera.everywhere(f"real-{number}", link, open_scan(f"real-{number}"))
            camera.everywhere("editing", link, editing)
            with camera.page(link) as page:
                save(page)
            camera.everywhere("audit", link, open_scan("demo"))
            for reader, steps in (("A. Reader", 2), ("B. Reader", 5)):
                with camera.page(link) as page:
                    read(page, reader, steps)
                    for width, scheme in camera.looks:
                        page.set_viewport_size({"width": width, "height": 900})
                        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                        camera.take(f"reading-{reader[0].lower()}", page, width, scheme)
                    submit(page, reader)
            camera.everywhere("agreement", link, open_scan("read-twice"))
        browser.close()


def main() -> None:
    """Take the pictures in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--more", type=Path, nargs="*", default=[])
    parser.add_argument("--looks", nargs="*", default=LOOKS, choices=LOOKS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        photograph(options, Path(folder) / "results")


if __name__ == "__main__":
    main()
