import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from infarct.measurement.atlas import load_atlas
from infarct.reporting.methods import _references, write_methods

SUMMARY: dict[str, Any] = {
    **{"model": "fcn-ch2-slices:specific", "method": "FCN_CH2_slices network"},
    **{"threshold": 0.5, "sampling": "1 mm"},
    **{"brain_method": "network", "bvalue_s_per_mm2": 1000.0},
    **{"notes": [], "warnings": [], "aspects": None, "pc_aspects": None},
    "registration": {"affine_refined": True},
    "confidence": {
        **{"infarct_probability": 0.9, "volume_interval_ml": [1.0, 2.0]},
        "operating_point": "specific",
        "calibration": {"scans": 232, "with_infarct": 99, "learned_from": "synthetic scans"},
        "second_method": {"model": "cfuzzy"},
    },
}
MANIFEST: dict[str, Any] = {
    **{"infarct": "9.8.7", "python": "3.12.1", "libraries": {"SimpleITK": "2.5.1", "numpy": "2.1"}},
    "networks": {"FCN_CH2.onnx": "abcdef0123456789"},
    "engine": {"name": "onnxruntime", "version": "1.20", "precision": "float32"},
    "inputs": {"dwi": {}, "b0": {}},
    "assets": {"networks/BrainMask": "fedcba9876543210"},
    "territories": {"file": "my_atlas.nii.gz", "sha256": "0123"},
}


def written(folder: Path, *results: tuple[Mapping[str, Any], Mapping[str, Any]]) -> str:
    write_methods(results, folder)
    return (folder / "methods.md").read_text(encoding="utf-8")


def changed(**values: object) -> dict[str, Any]:
    return {**deepcopy(SUMMARY), **values}


def finding(code: str) -> list[dict[str, str]]:
    return [{"code": code, "level": "note", "message": ""}]


def test_versions_networks_and_engine_are_those_of_the_manifest(tmp_path: Path) -> None:
    text = written(tmp_path, (SUMMARY, MANIFEST))
    for stated in (
        *("infarct 9.8.7", "SimpleITK 2.5.1", "Python 3.12.1, numpy 2.1"),
        *("onnxruntime 1.20 (float32)", "SHA-256 abcdef012345)", "SHA-256 fedcba987654"),
        *("b = 1000 s/mm²", "a diffusion-weighted image and a b0", "232 synthetic scans (99"),
        *("operating point specific", "90% volume interval", "an affine transform"),
        "a custom my\\_atlas.nii.gz",
    ):
        assert stated in text


@pytest.mark.parametrize(
    ("statement", "summary", "manifest"),
    [
        ("dcm2niix", {"notes": finding("dicom-series")}, {}),
        ("from a series of volumes", {"notes": finding("series-split")}, {}),
        ("b0 was computed", {"notes": finding("b0-computed")}, {}),
        ("filter was not applied", {"warnings": finding("filter-not-applied")}, {}),
        ("on the measured slices", {"sampling": "measured slices"}, {}),
        ("provided by the user", {"brain_method": "given"}, {}),
        ("already skull-stripped", {"brain_method": "stripped"}, {}),
        ("thresholds and morphology", {"brain_method": "threshold"}, {}),
        ("the in-plane transform", {"registration": {"affine_refined": False}}, {}),
        ("corrected manually", {"corrections": [{}]}, {}),
        ("ASPECTS on DWI", {"aspects": {}}, {}),
        ("PC-ASPECTS", {"pc_aspects": {}}, {}),
        ("an ADC map", {}, {"inputs": {"dwi": {}, "adc": {}}}),
        ("a file of b-values", {}, {"inputs": {"dwi": {}, "bval": {}}}),
        (
            "the bundled",
            {},
            {"territories": {"file": "t", "sha256": load_atlas("territories").sha256}},
        ),
    ],
)
def test_each_statement_follows_the_result(
    statement: str, summary: dict, manifest: dict, tmp_path: Path
) -> None:
    assert statement not in written(tmp_path, (SUMMARY, MANIFEST))
    assert statement in written(tmp_path, (changed(**summary), {**MANIFEST, **manifest}))


@pytest.mark.parametrize(
    ("statement", "summary", "manifest"),
    [
        ("candidate filter, calibrated", {"confidence": None}, {}),
        ("All images were resampled", {"sampling": "measured slices"}, {}),
        ("candidate filter, calibrated", {"warnings": finding("filter-not-applied")}, {}),
        ("conformal", {"confidence": {}}, {}),
        ("compared with that of", {"confidence": None}, {}),
        ("ADC map was computed", {}, {"inputs": {"dwi": {}, "adc": {}}}),
        ("BrainMask", {"brain_method": "given"}, {}),
        ("FCN\\_CH2.onnx", {"model": "cfuzzy"}, {"networks": {}}),
        ("Inference", {"brain_method": "given"}, {"networks": {}}),
    ],
)
def test_nothing_is_stated_that_was_not_done(
    statement: str, summary: dict, manifest: dict, tmp_path: Path
) -> None:
    assert statement in written(tmp_path, (SUMMARY, MANIFEST))
    assert statement not in written(tmp_path, (changed(**summary), {**MANIFEST, **manifest}))


def test_the_sources_are_those_of_the_method(tmp_path: Path) -> None:
    sources = {"fcn-ch2": "platt1999", "cfuzzy": "guo2015", "tscore": "nazari2020"}
    for model, source in sources.items():
        networks = MANIFEST["networks"] if model == "fcn-ch2" else {}
        confidence = SUMMARY["confidence"] if networks else None
        summary = changed(model=model, confidence=confidence)
        assert source in written(tmp_path, (summary, {**MANIFEST, "networks": networks}))
        assert ("platt1999" in (tmp_path / "references.bib").read_text("utf-8")) == bool(networks)


def test_a_cohort_counts_what_differs_and_states_once_what_does_not(tmp_path: Path) -> None:
    other = changed(bvalue_s_per_mm2=800.0, notes=finding("b0-computed"))
    text = written(tmp_path, (SUMMARY, MANIFEST), (SUMMARY, MANIFEST), (other, MANIFEST))
    assert "3 scans were processed" in text
    assert "b = 1000 (2 scans) or 800 (1 scan) s/mm²" in text
    assert "The b0 was computed from the diffusion-weighted image and the ADC map in 1 of 3" in text
    assert text.count("FCN\\_CH2.onnx") == 1
    assert "of 3 scans" not in text.replace("in 1 of 3 scans", "", 1)


def test_every_citation_has_its_entry_and_no_other(tmp_path: Path) -> None:
    everything = changed(
        notes=[*finding("dicom-series"), *finding("series-split")], aspects={}, pc_aspects={}
    )
    classical = changed(model="tscore", confidence=None)
    text = written(tmp_path, (everything, MANIFEST), (classical, {**MANIFEST, "networks": {}}))
    cited = set(re.findall(r"@(\w+)", text))
    latex = (tmp_path / "methods.tex").read_text(encoding="utf-8")
    keys = {key for group in re.findall(r"\\cite{([^}]+)}", latex) for key in group.split(",")}
    entries = re.findall(r"^@\w+{(\w+),", (tmp_path / "references.bib").read_text("utf-8"), re.M)
    assert cited == keys == set(entries)
    assert len(entries) == len(set(entries))
    assert cited == set(_references())


def test_references_are_complete() -> None:
    for key, entry in _references().items():
        assert entry.count("{") == entry.count("}")
        if key != "infarct":
            assert {"title", "author", "year"} <= set(re.findall(r"^  (\w+) = {", entry, re.M))


def test_names_are_escaped_in_both_formats(tmp_path: Path) -> None:
    atlas = {"file": "a_b&c%{x}$#~^\\*.nii", "sha256": "1"}
    text = written(tmp_path, (SUMMARY, {**MANIFEST, "territories": atlas}))
    assert r"a\_b&c%{x}$#~^\\\*.nii" in text
    latex = (tmp_path / "methods.tex").read_text(encoding="utf-8")
    assert r"a\_b\&c\%\{x\}\$\#\textasciitilde{}\textasciicircum{}\textbackslash{}*.nii" in latex
    assert r"90\% volume interval" in latex
    assert "²" not in latex
