"""The whole workflow in a real browser: drop, wait, draw, save, reload, read twice.

Skipped where there is no Chromium or no bundled viewer (`make web`).
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tests.web.conftest import CASE, TOKEN

from infarct.core import assets
from infarct.web.server import VIEWER

CHROMIUM = os.environ.get("INFARCT_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PATIENCE_MS = 240_000
"""Drawing in software on a busy machine is slow; no test depends on the time."""

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (set INFARCT_CHROMIUM)"),
    pytest.mark.skipif(not VIEWER.is_file(), reason="the viewer is not bundled (make web)"),
]

ASYMMETRIC = [(3, 1, 2), (3, 2, 2), (3, 3, 2), (4, 3, 2), (5, 3, 2), (5, 3, 3), (9, 4, 0)]
"""An object without any symmetry, as voxels of a file."""


@pytest.fixture(scope="module")
def results(written_quick: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the result `case`."""
    folder = tmp_path_factory.mktemp("browser")
    shutil.copytree(written_quick, folder / "case")
    return folder


@pytest.fixture(scope="module")
def address(results: Path) -> Iterator[str]:
    """Start `infarct serve` as a user does, and return its link."""
    command = [sys.executable, "-m", "infarct", "serve", str(results), "--no-browser"]
    with subprocess.Popen(
        [*command, "--port", "0", "--token", TOKEN, "--model", "cfuzzy"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as server:
        assert server.stdout is not None
        link = next(line for line in server.stdout if line.startswith("open: "))
        yield link.removeprefix("open: ").strip()
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Chromium, which draws in software."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    arguments = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """Open the page; fail on any error, refused resource or request to another host."""
    context = browser.new_context(viewport={"width": 900, "height": 700})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    faults: list[str] = []
    home = address.split("/?", maxsplit=1)[0]
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda m: faults.append(m.text) if "Content Security" in m.text else None)
    opened.on(
        "request",
        lambda r: faults.append(r.url) if not r.url.startswith((home, "blob:", "data:")) else None,
    )
    opened.goto(address)
    yield opened
    context.close()
    assert faults == []


def drop(page: Any, files: dict[str, bytes]) -> None:
    """Drop files onto the page as the desktop does."""
    content = {name: base64.b64encode(data).decode() for name, data in files.items()}
    page.wait_for_selector(".drop")
    page.evaluate(
        """content => {
            const data = new DataTransfer();
            for (const [name, text] of Object.entries(content))
                data.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
            document.querySelector(".drop").dispatchEvent(
                new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        content,
    )


def open_scan(page: Any, name: str) -> None:
    page.click(f"table.worklist th >> text={name}")
    page.wait_for_selector(".tools")
    page.wait_for_function("document.querySelector('.where')?.value")


def fill_and_send(page: Any, **values: str) -> None:
    for name, value in values.items():
        page.fill(f"#ask-{name}", value)
    page.click("dialog button.main")


def test_a_refused_file_is_explained(page) -> None:
    drop(page, {"letter.docx": b"no image"})
    page.wait_for_selector(".refused")
    assert "neither a NIfTI image" in page.inner_text(".refused")
    drop(page, {"one.nii.gz": b"x", "two.nii.gz": b"y"})
    page.wait_for_selector(".roles select")
    assert page.locator(".roles select").count() == 2


def test_from_drop_to_result(page, results) -> None:
    files = {f"{role}.nii.gz": assets.path(f"demo/{role}").read_bytes() for role in ("dwi", "b0")}
    drop(page, files)
    page.wait_for_selector("img.preview")
    page.wait_for_selector(".job .step")
    page.wait_for_selector("table.worklist >> text=scan-001")
    assert (results / "scan-001" / "report.html").is_file()
    open_scan(page, "scan-001")
    where = page.evaluate("document.querySelector('.where').value")
    assert re.match(r"Slice \d+ of 37\. DWI \d+", where)


def test_what_is_drawn_is_what_is_saved(page, results) -> None:
    """The keyboard alone: place, draw, undo, redo, reload, save."""
    before = np.asarray(nib.load(results / "case" / "lesion_mask.nii.gz").dataobj) > 0
    open_scan(page, "case")
    page.keyboard.press("b")
    for _ in range(6):
        page.keyboard.press("PageUp")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    text = "document.querySelector('.panel output').value"
    drawn = page.evaluate(text)
    assert "not saved" in drawn
    page.keyboard.press("Control+z")
    assert page.evaluate(text) != drawn
    page.keyboard.press("Control+y")
    assert page.evaluate(text) == drawn
    page.reload()
    page.wait_for_selector("#message:not(:empty)")
    assert "restored" in page.inner_text("#message")
    assert page.evaluate(text) == drawn
    page.keyboard.press("Control+s")
    fill_and_send(page, by="Anna", reason="missed part")
    page.wait_for_selector(".audit")
    assert "Anna" in page.inner_text(".audit")
    after = np.asarray(nib.load(results / "case" / "lesion_mask.nii.gz").dataobj) > 0
    added = after & ~before
    assert after.sum() > before.sum()
    assert not (before & ~after).any()
    # Radiological view: the left arrow goes to the patient's right, in both strokes on one slice.
    x, _, z = np.nonzero(added)
    assert len(set(z)) == 1
    assert added.any(axis=(1, 2)).sum() >= 2
    assert x.max() > x.min()
    summary = json.loads((results / "case" / "summary.json").read_text())
    assert summary["corrections"][0]["reason"] == "missed part"


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, -1), (1, -1, 1)])
def test_voxels_keep_their_place_in_every_orientation(page, tmp_path, flips) -> None:
    """The viewer reorders images; what it hands back is in the order of the file."""
    data = np.zeros((12, 11, 10), np.float32)
    for voxel in ASYMMETRIC:
        data[voxel] = 1
    image = nib.Nifti1Image(data, np.diag([2.0 * flips[0], 2.0 * flips[1], 5.0 * flips[2], 1]))
    content = base64.b64encode(image.to_bytes()).decode()
    places = page.evaluate(
        """async ([content]) => {
            const { Niivue } = await import("/static/niivue.js");
            const { Labels } = await import("/static/labels.js");
            const nv = new Niivue({ logLevel: "error" });
            const canvas = document.createElement("canvas");
            document.body.append(canvas);
            await nv.attachToCanvas(canvas);
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            await nv.loadFromArrayBuffer(bytes.buffer, "mask.nii");
            const volume = nv.volumes[0];
            const labels = new Labels({ dims: volume.dimsRAS.slice(1, 4),
                spacing: volume.pixDimsRAS.slice(1, 4),
                start: volume.img2RASstart, step: volume.img2RASstep });
            labels.fromFile(Uint8Array.from(volume.img));
            const shown = volume.img2RAS();
            const same = labels.data.every((value, index) => value === shown[index]);
            const file = labels.toFile();
            const back = file.every((value, index) => value === volume.img[index]);
            labels.fromText(labels.toText());
            const mm = [];
            labels.data.forEach((value, index) => {
                if (value) mm.push([...nv.frac2mm(
                    labels.place(index).map((at, k) => (at + 0.5) / labels.grid.dims[k]))]);
            });
            return { same, back, mm: mm.map((each) => each.slice(0, 3)) };
        }""",
        [content],
    )
    assert places["same"]
    assert places["back"]
    expected = nib.affines.apply_affine(image.affine, np.argwhere(data))
    found = np.array(places["mm"])
    assert np.allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], atol=1e-3)


def test_a_blinded_double_reading(browser, address, results) -> None:
    before = (results / "case" / "summary.json").read_text()
    for number, reader in enumerate(("Ben", "Cleo"), 1):
        context = browser.new_context(viewport={"width": 900, "height": 700})
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(address)
        page.click("table.worklist th >> text=case")
        page.click(f"text=Start {'a double' if number == 1 else 'the second'} reading")
        fill_and_send(page, reader=reader)
        page.wait_for_selector("text=Blinded reading")
        page.wait_for_selector(".tools")
        assert page.locator(".lesion").count() == 0
        assert page.evaluate("document.querySelector('.panel output').value").startswith("0.00")
        page.keyboard.press("b")
        page.keyboard.press("Space")
        page.click("text=Submit the reading")
        page.click("dialog button.main")
        page.wait_for_selector(f"text={reader}: submitted")
        if number == 2:
            assert "Dice" in page.inner_text(".agreement")
            assert "1.00" in page.inner_text(".agreement")
        context.close()
    assert (results / "case" / "summary.json").read_text() == before


def test_there_are_no_serious_accessibility_findings(page) -> None:
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="axe-core is missing")
    found = {}
    page.wait_for_selector("table.worklist")
    found["worklist"] = axe.Axe().run(page)
    page.goto(page.url.split("#")[0] + f"#/scan/{CASE}")
    page.wait_for_selector(".panel section")
    found["scan"] = axe.Axe().run(page)
    page.goto(page.url.split("#")[0] + "#/readings")
    page.wait_for_selector("h1 >> text=Double readings")
    found["readings"] = axe.Axe().run(page)
    serious = [
        (name, each["id"], each["nodes"][0]["html"])
        for name, result in found.items()
        for each in result["violations"]
        if each["impact"] in {"serious", "critical"}
    ]
    assert serious == []
