"""The report is self-contained, agrees with the summary, and prints on two pages."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infarct.reporting.html_report import render
from infarct.reporting.narrative import describe_confidence, impression, verdict
from infarct.reporting.reader import Stored
from infarct.reporting.slice_viewer import slice_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_VOID = {"meta", "input", "img", "br", "path", "use", "image", "rect", "circle"}


class Outline(HTMLParser):
    """Collect the attributes of all tags, and fail on unbalanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an opening tag."""
        self.attributes.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that the innermost open tag is closed first."""
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a self-closing tag."""
        self.attributes.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page(stored: Stored) -> str:
    return render(stored)


@pytest.fixture(scope="module")
def everything(stored: Stored) -> Stored:
    """Return a result whose summary has all optional entries."""
    territory = {"name": "MCA", "side": "left", "ml": 9.1, "share_of_territory": 0.11}
    region = {"name": "insula", "side": "left", "class": "cortical", "ml": 1.2}
    more: dict[str, Any] = {
        "territories": [
            {
                **territory,
                "share_of_lesion": 0.83,
                "subterritories": [{**territory, "name": "MCA deep", "share_of_lesion": 0.2}],
            }
        ],
        "regions": [{**region, "share_of_region": 0.31, "share_of_lesion": 0.07}] * 14,
        "aspects": {"score": 7, "side": "left", "affected": ["M1", "M2"], "rule": "10% of it"},
        "pc_aspects": {"score": 10, "side": "", "affected": [], "rule": "the same"},
        "pattern": {"hemispheres": "left", "dominant_territory": "left MCA", "border": 0.123},
        "confidence": {
            "infarct_probability": 0.97,
            "volume_interval_ml": [10.2, 14.8],
            "volume_interval_probability": 0.9,
        },
        "warnings": [
            {"code": "x", "level": "warning", "message": f"look <here> {n}"} for n in "ab"
        ],
    }
    lesions = [
        {**lesion, "territory": "left MCA", "compartment": "cortical", "probability": 0.93}
        for lesion in stored.summary["lesions"] * 14
    ]
    return replace(stored, summary={**stored.summary, **more, "lesions": lesions})


def test_unknown_pattern_entries_are_omitted(everything: Stored) -> None:
    # As with a custom atlas without border zones.
    pattern = {"lesions": "single", "border_zone_share": None}
    page = render(replace(everything, summary={**everything.summary, "pattern": pattern}))
    assert "Pattern: lesions: single.</p>" in page


def test_report_is_self_contained(page) -> None:
    assert not re.search(r"https?://|<link|<iframe|@import|src=\"(?!data:)", page)
    assert "default-src 'none'" in page
    assert set(re.findall(r'href="([^#"][^:]*):', page)) == {"data"}
    assert len(page) < 4_000_000


def test_report_is_well_formed_and_every_image_is_labelled(page) -> None:
    parser = Outline()
    parser.feed(page)
    assert parser.open == []
    for tag, attributes in parser.attributes:
        if tag == "svg":
            assert attributes.get("aria-hidden") or attributes.get("aria-label")
    ids = [attributes["id"] for _, attributes in parser.attributes if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_report_starts_with_the_verdict_and_labels_left_and_right(stored, page) -> None:
    assert f"<h1>{verdict(stored.summary)}</h1>" in page
    assert describe_confidence(stored.summary) in page
    assert "Probability that an acute infarct is visible:" in page
    assert impression(stored.summary) in page
    assert "Radiological convention" in page
    assert ">R</span>" in page
    assert ">L</span>" in page
    assert "not a medical device" in page
    assert page.index("<h1>") < page.index('id="viewer"') < page.index("Methods and provenance")


def test_report_says_whose_scan_it_shows(stored) -> None:
    case = {"id": "p<7", "scan_date": "2020-01-02", "links": {"next": "../p8/report.html"}}
    page = render(replace(stored, manifest={**stored.manifest, "case": case}))
    assert "<title>p&lt;7: " in page
    assert "<strong>p&lt;7</strong><span>scanned 2020-01-02</span>" in page
    assert 'href="../p8/report.html">Next case' in page
    assert "Previous case" not in page
    # Printed on top of every page.
    assert '@top-left { content: "p\\3c 7' in page


def test_doubtful_lesions_are_marked(everything) -> None:
    rows = [dict(row) for row in everything.summary["lesions"][:3]]
    for row, (probability, adc) in zip(rows, ((0.9, 0.6), (0.49, 0.6), (0.9, 1.1)), strict=True):
        row |= {"probability": probability, "adc_ratio": adc, "volume_ml": 2.0}
    summary = {**everything.summary, "lesions": rows, "lesion_volume_ml": 6.0}
    page = render(replace(everything, summary=summary))
    assert page.count('<tr class="doubtful">') == page.count(">doubtful</span>") == 2
    assert "<dt>Without doubtful lesions</dt><dd>2.0 ml</dd>" in page


def test_ventricles_and_small_shares_are_collapsed(everything) -> None:
    shares = (("pons", "infratentorial", 0.5), ("ventricle", "ventricle", 0.4))
    regions = [
        {**{"name": name, "side": "left", "class": kind, "ml": share}, "share_of_region": 0.1}
        | {"share_of_lesion": share}
        for name, kind, share in (*shares, ("insula", "cortical", 0.009))
    ]
    page = render(replace(everything, summary={**everything.summary, "regions": regions}))
    start = page.index("<h3>Regions</h3>")
    details = page.index("<details>", start)
    assert start < page.index("<td>pons</td>") < details
    assert details < page.index("<td>ventricle</td>") < page.index("<td>insula</td>", details)


def test_second_method_links_to_the_slice_where_it_differs(everything) -> None:
    at = everything.summary["lesions"][0]["centroid_mm"]
    for agrees, told in ((True, 2), (False, 2), (None, 1)):
        second = {"model": "cfuzzy", "volume_ml": 5.0, "agrees": agrees, "differs_at_mm": at}
        certain = {**everything.summary["confidence"], "second_method": second}
        page = render(replace(everything, summary={**everything.summary, "confidence": certain}))
        number = slice_of(everything, at)
        # Silent at the top for small lesions; the viewer always leads there.
        assert page.count(f'data-slice="{number}" data-second>') == told


def test_report_gives_the_provenance_without_folders(stored, page) -> None:
    manifest = stored.manifest
    for text in (
        f"infarct {manifest['infarct']}",
        f"numpy {manifest['libraries']['numpy']}",
        manifest["inputs"]["dwi"]["sha256"],
        "infarct segment --dwi dwi.nii.gz",
    ):
        assert text in page
    assert "surname" not in page


def test_report_is_reproducible(stored, page) -> None:
    assert render(stored) == page


def test_embedded_contours_match_the_slices_with_lesion(stored, page) -> None:
    (text,) = re.findall(r'id="data">(.*?)</script>', page)
    outlines = json.loads(text)["outlines"]
    assert len(outlines) == stored.dwi.data.shape[2]
    drawn = [bool(outline) for outline in outlines]
    assert drawn == stored.lesion.data.any(axis=(0, 1)).tolist()


def test_optional_entries_are_shown_when_present(everything) -> None:
    page = render(everything)
    for text in (
        *("middle cerebral artery (MCA)", "MCA deep", "83%", "11%"),
        *("insula", "31%", "<summary>4 more, with small shares"),
        *("ASPECTS (left), computed from the lesion mask, is 7", "M1, M2", "10% of it."),
        *("PC-ASPECTS: no region reaches the required size", 'class="affected"'),
        *(
            "is visible: 97%",
            "10 ml and 15 ml",
            "dominant territory: left MCA",
            "border: 12%",
        ),
        *("<td>cortical</td>", "<td>93%</td>"),
        *("the borders of the arterial territories", 'class="parcel"'),
    ):
        assert text in page, text
    assert "look &lt;here&gt; a." in page
    assert page.index('class="warning"') < page.index('id="viewer"')
    parser = Outline()
    parser.feed(page)
    assert parser.open == []


def test_report_of_a_lesion_free_scan(stored) -> None:
    empty = stored.lesion.like(np.zeros_like(stored.lesion.data))
    nothing = {
        **{"lesion_volume_ml": 0.0, "left_ml": 0.0, "right_ml": 0.0, "lesion_count": 0},
        **{"dwi_ratio": None, "adc_ratio": None, "mean_adc": None, "lesions": []},
    }
    page = render(
        replace(
            stored,
            lesion=empty,
            lesion_mni=np.zeros_like(stored.lesion_mni),
            summary={**stored.summary, **nothing},
        )
    )
    assert "No acute infarct was segmented." in page
    assert "Location in MNI space" not in page
    assert "Lesion volume" not in page
    assert 'class="negative"' in page
    assert "Table of lesions" not in page


def browse(*arguments: str, page: Path, profile: Path) -> str:
    flags = "headless no-sandbox disable-gpu no-first-run disable-background-networking"
    flags += " disable-component-update disable-sync"
    done = subprocess.run(
        [
            str(CHROMIUM),
            *(f"--{flag}" for flag in flags.split()),
            f"--user-data-dir={profile}",
            *arguments,
            page.as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    return done.stdout.decode()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_browser_runs_the_viewer_and_prints_two_pages(everything, tmp_path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(everything), encoding="utf-8")
    dom = browse("--dump-dom", page=path, profile=tmp_path / "a")
    assert '<html lang="en" class="js">' in dom
    assert re.search(r"Slice \d+ of 34, with lesion</output>", dom)
    browse(f"--print-to-pdf={tmp_path / 'page.pdf'}", page=path, profile=tmp_path / "b")
    pdf = (tmp_path / "page.pdf").read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 2
