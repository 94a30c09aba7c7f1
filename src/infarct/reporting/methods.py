"""Methods text: what was run on one scan or on a cohort, for a publication.

The text is derived from `summary.json` and `manifest.json` only, so that it states what was done
rather than what is usual. Statements that differ between scans are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from infarct.core.diffusion import TISSUE_ADC
from infarct.core.findings import FindingCode
from infarct.measurement.atlas import load_atlas
from infarct.segmentation.models import BRAIN_NETWORK
from infarct.uncertainty.calibration import COVERAGE

METHODS = ("methods.md", "methods.tex", "references.bib")
"""The files that `write_methods` writes."""

_DIGITS = 12
"""Number of hexadecimal digits of a SHA-256 in the text."""

_ROLES = {"dwi": "a diffusion-weighted image", "b0": "a b0", "adc": "an ADC map"}
_LIBRARIES = ("numpy", "scipy", "nibabel", "onnxruntime")
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>])")

Result = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Contents of `summary.json` and `manifest.json`."""


class _Formatted(str):
    """Text that is already in the format of the output and is not escaped."""

    __slots__ = ()


def write_methods(results: Sequence[Result], folder: Path) -> None:
    """Write `methods.md`, `methods.tex` and `references.bib`.

    Args:
        results: The results that the text describes, at least one.
        folder: Output folder.
    """
    facts = [_facts(summary, manifest) for summary, manifest in results]
    markdown, sources = _render(facts, _markdown, "[@{}]", "; @", "²")
    latex, _ = _render(facts, _latex, r"~\cite{{{}}}", ",", r"\textsuperscript{2}")
    (folder / "methods.md").write_text(markdown, encoding="utf-8")
    (folder / "methods.tex").write_text(latex, encoding="utf-8")
    references = "\n\n".join(_references()[key] for key in sources)
    (folder / "references.bib").write_text(references + "\n", encoding="utf-8")


def _render(
    facts: Sequence[Mapping[str, str | bool]],
    escape: Callable[[str], str],
    citation: str,
    separator: str,
    squared: str,
) -> tuple[str, list[str]]:
    """Return the text in one format, and the keys of the sources that it cites, in order."""
    cited: dict[str, None] = {}

    def cite(*keys: str) -> _Formatted:
        cited.update(dict.fromkeys(keys))
        lead = "" if citation.startswith("~") else " "
        return _Formatted(lead + citation.format(separator.join(keys)))

    def each(name: str) -> str:
        counts = Counter(str(fact[name]) for fact in facts if fact[name] not in ("", False))
        if len(counts) == 1:
            return next(iter(counts))
        return " or ".join(
            f"{value} ({n} {'scan' if n == 1 else 'scans'})" for value, n in counts.most_common()
        )

    def count(name: str) -> int:
        return sum(bool(fact[name]) for fact in facts)

    def of(name: str) -> str:
        return "" if count(name) == len(facts) else f" in {count(name)} of {len(facts)} scans"

    def escaped(value: object) -> object:
        return value if isinstance(value, _Formatted) else escape(str(value))

    environment = Environment(
        loader=PackageLoader("infarct.reporting"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=escaped,
    )
    sources = [str(fact["source"]) for fact in facts]
    text = environment.get_template("methods.j2").render(
        cite=cite,
        each=each,
        some=count,
        of=of,
        scans=len(facts),
        single=len(facts) == 1,
        method_sources=list(dict.fromkeys(key for one in sources for key in one.split())),
        coverage=COVERAGE,
        percent=lambda share: f"{share:.0%}",
        squared=_Formatted(squared),
        tissue=[f"{value:g}" for value in TISSUE_ADC],
    )
    return text, list(cited)


def _facts(summary: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, str | bool]:
    """Return what the text states about one result."""
    codes = {note["code"] for note in (*summary["notes"], *summary["warnings"])}
    confidence = summary.get("confidence") or {}
    networks = manifest.get("networks") or {}
    name, _, _ = str(summary["model"]).partition(":")
    calibration = confidence.get("calibration")
    void = FindingCode.FILTER_NOT_APPLIED in codes
    engine = manifest.get("engine")
    return {
        "version": manifest["infarct"],
        "inputs": _inputs(manifest["inputs"]),
        "bvalue": f"{summary['bvalue_s_per_mm2']:g}",
        "dicom": FindingCode.DICOM_SERIES in codes,
        "series": FindingCode.SERIES_SPLIT in codes,
        "b0_computed": FindingCode.B0_COMPUTED in codes,
        "adc_computed": "adc" not in manifest["inputs"],
        "simpleitk": manifest["libraries"].get("SimpleITK", ""),
        "brain": _brain(summary["brain_method"], manifest),
        "threshold": f"{summary['threshold']:g}",
        "method": _method(name, summary["method"], networks),
        "source": {"cfuzzy": "liu2021 guo2015", "tscore": "nazari2020 crawford1998"}.get(
            name, "liu2021"
        ),
        "network": bool(networks) or summary["brain_method"] == "network",
        "engine": "{name} {version} ({precision})".format(**engine) if engine else "",
        "slices": (slices := summary.get("sampling") == "measured slices"),
        "volume": not slices,
        "filtered": bool(calibration) and not void,
        "calibration": _calibration(calibration),
        "point": confidence.get("operating_point") or "",
        "confidence": confidence.get("volume_interval_ml") is not None,
        "filter_void": void,
        "second_method": "second_method" in confidence,
        "corrected": bool(summary.get("corrections")),
        "lookup": (
            "an affine transform"
            if summary.get("registration", {}).get("affine_refined")
            else "the in-plane transform"
        ),
        "territories": _territories(manifest["territories"]),
        "aspects": summary.get("aspects") is not None,
        "pc_aspects": summary.get("pc_aspects") is not None,
        "libraries": _libraries(manifest),
    }


def _inputs(given: Mapping[str, Any]) -> str:
    images = [words for role, words in _ROLES.items() if role in given]
    if "bval" in given:
        images.append("a file of b-values")
    return images[0] if len(images) == 1 else f"{', '.join(images[:-1])} and {images[-1]}"


def _brain(method: str, manifest: Mapping[str, Any]) -> str:
    digest = (manifest.get("assets") or {}).get(f"networks/{BRAIN_NETWORK}", "")
    return {
        "given": "provided by the user",
        "stripped": "derived from images that were already skull-stripped",
        "threshold": "computed with thresholds and morphology",
        "network": f"computed with the network {BRAIN_NETWORK}{_checksum(digest)}",
    }[method]


def _method(name: str, title: str, networks: Mapping[str, str]) -> str:
    files = [f"{file}{_checksum(digest)}" for file, digest in networks.items()]
    article = "" if title.startswith("the ") else "the "
    return f"{article}{title} ({'; '.join([f'model {name}', *files])})"


def _calibration(calibration: Mapping[str, Any] | None) -> str:
    if not calibration:
        return ""
    kind = calibration["learned_from"] or "scans of unrecorded origin"
    return f"{calibration['scans']} {kind} ({calibration['with_infarct']} with an infarct)"


def _territories(atlas: Mapping[str, Any]) -> str:
    shipped = atlas["sha256"] == load_atlas("territories").sha256
    return f"{'the bundled' if shipped else 'a custom'} {atlas['file']}{_checksum(atlas['sha256'])}"


def _libraries(manifest: Mapping[str, Any]) -> str:
    versions = {"Python": manifest["python"], **manifest["libraries"]}
    return ", ".join(f"{n} {versions[n]}" for n in ("Python", *_LIBRARIES) if n in versions)


def _checksum(digest: str) -> str:
    return f", SHA-256 {digest[:_DIGITS]}" if digest else ""


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


@lru_cache(maxsize=1)
def _references() -> dict[str, str]:
    """Return the BibTeX entry of every source, by its key."""
    text = files("infarct.reporting").joinpath("templates", "references.bib").read_text("utf-8")
    entries = re.split(r"\n\n(?=@)", text.strip())
    return {re.split(r"[{,]", entry, maxsplit=2)[1]: entry for entry in entries}
