"""The columns of `numbers.tsv`: one fixed schema with a data dictionary, as in BIDS.

The columns do not depend on the cases, so that the tables of two cohorts can be stacked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from infarct.measurement.atlas import load_atlas

EMPTY = "n/a"
"""Cell of an unknown or undefined value."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: Name of the column.
        path: Keys and indices that lead to the value in `summary.json`.
        description: Meaning of the value.
        unit: Unit; empty for numbers without unit and for text.
        absent: Cell for a finished case whose summary does not list the value.
    """

    name: str
    path: tuple[str | int, ...]
    description: str
    unit: str = ""
    absent: str = EMPTY

    def entry(self) -> dict[str, str]:
        """Return the entry of the data dictionary."""
        return {"Description": self.description, **({"Units": self.unit} if self.unit else {})}


def _scalar(name: str, description: str, unit: str = "") -> Column:
    return Column(name, (name,), description, unit)


_SCALARS = (
    _scalar("lesion_volume_ml", "Lesion volume", "ml"),
    _scalar("lesion_count", "Number of lesions (26-connected components)"),
    _scalar("doubtful_count", "Lesions below 50%, or with an ADC above that of normal tissue"),
    _scalar("volume_without_doubtful_ml", "Lesion volume without doubtful lesions", "ml"),
    _scalar("left_ml", "Lesion volume left of the midline (the patient's left)", "ml"),
    _scalar("right_ml", "Lesion volume right of the midline", "ml"),
    _scalar("intracranial_volume_ml", "Volume of the brain mask", "ml"),
    _scalar("dwi_ratio", "Mean DWI of the lesion / mean DWI of normal tissue"),
    _scalar("adc_ratio", "Mean ADC of the lesion / mean ADC of normal tissue"),
    _scalar("mean_adc", "Mean ADC of the lesion", "mm^2/s"),
    _scalar("model", "Requested model"),
    _scalar("method", "Description of the model"),
    _scalar("threshold", "Probability above which a voxel is lesion"),
    _scalar("engine", "Inference engine: name, version, precision"),
    _scalar("bvalue_s_per_mm2", "b-value of the DWI", "s/mm^2"),
    _scalar("brain_method", "Source of the brain mask"),
)
_NESTED = (
    (("confidence", "infarct_probability"), "Probability that an acute infarct is visible", ""),
    (("confidence", "volume_interval_ml", 0), "Lower end of the volume interval", "ml"),
    (("confidence", "volume_interval_ml", 1), "Upper end of the volume interval", "ml"),
    (("confidence", "volume_interval_probability"), "Coverage of the volume interval", ""),
    (
        ("confidence", "failure_probability"),
        "Probability that the Dice of the mask with that of a reader is below 0.5",
        "",
    ),
    (("confidence", "operating_point"), "Operating point of the candidate filter", ""),
    (("confidence", "rejected", "candidates"), "Number of rejected candidates", ""),
    (("confidence", "rejected", "ml"), "Volume of the rejected candidates", "ml"),
    (("confidence", "second_method", "model"), "Name of the second method", ""),
    (("confidence", "second_method", "volume_ml"), "Lesion volume of the second method", "ml"),
    (("confidence", "second_method", "overlap_ml"), "Volume common to both methods", "ml"),
    (("confidence", "second_method", "agrees"), "Whether the methods agree; n/a below 1 ml", ""),
    (("aspects", "score"), "ASPECTS of the worse side, computed from the mask", ""),
    (("aspects", "side"), "Scored side of ASPECTS", ""),
    (("aspects", "affected"), "Affected regions of ASPECTS, separated by ;", ""),
    (("pc_aspects", "score"), "PC-ASPECTS, computed from the mask", ""),
    (("pc_aspects", "side"), "Side of the regions affected in PC-ASPECTS", ""),
    (("pc_aspects", "affected"), "Affected regions of PC-ASPECTS, separated by ;", ""),
    (("pattern", "hemispheres"), "Hemispheres with more than a tenth of the lesion", ""),
    (("pattern", "lesions"), "single, multiple or none", ""),
    (("pattern", "territories"), "Affected territories: single, multiple or none", ""),
    (("pattern", "dominant_territory"), "Territory with most of the lesion", ""),
    (("pattern", "border_zone_share"), "Share of the lesion in border zones", ""),
    (("dwi_tissue_peak", "mean"), "Mean of the tissue peak of the DWI", "signal"),
    (("dwi_tissue_peak", "sd"), "SD of the tissue peak of the DWI", "signal"),
    (("adc_tissue_peak_mm2_per_s", "mean"), "Mean of the tissue peak of the ADC", "mm^2/s"),
    (("adc_tissue_peak_mm2_per_s", "sd"), "SD of the tissue peak of the ADC", "mm^2/s"),
    (("registration", "mutual_information"), "Quality of the registration", "nats"),
    (("registration", "affine_refined"), "Whether an affine located the lesions", ""),
    (("registration", "affine_displacement_mm"), "Mean displacement by this affine", "mm"),
)
_COUNTS = (
    Column("lesions", ("lesions",), "Number of rows of lesions.tsv"),
    Column("corrections", ("corrections",), "Number of manual corrections", absent="0"),
    Column("warnings", ("warnings",), "Codes of the warnings, separated by ;"),
    Column("notes", ("notes",), "Codes of the notes, separated by ;"),
    Column("seconds", ("seconds",), "Run time of all steps", "s"),
)
_KINDS = {"territories": "territory", "regions": "region"}


@lru_cache(maxsize=1)
def columns() -> tuple[Column, ...]:
    """Return all columns with measurements, in order."""
    nested = (
        Column("_".join(str(key) for key in _one_based(path)), path, text, unit)
        for path, text, unit in _NESTED
    )
    return (*_SCALARS, *nested, *_COUNTS, *_places())


def cells(summary: Mapping[str, Any]) -> list[str]:
    """Return the cells of a case, one for each column.

    Args:
        summary: Content of `summary.json`; empty if the case is not finished.
    """
    if not summary:
        return [EMPTY] * len(columns())
    places = _measured_places(summary)
    return [
        places.get(column.name, column.absent)
        if column.path[0] in _KINDS
        else _cell(column, _value(summary, column.path))
        for column in columns()
    ]


def dictionary(about: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the data dictionary of the table.

    Args:
        about: Names of the columns that were joined from the table of participants.
    """
    own = {
        "case": {"Description": "Id of the case"},
        "status": {"Description": "done, failed, or missing if it was not run yet"},
        "reason": {"Description": "Why the case failed"},
    }
    joined = {name: {"Description": "Copied from the table of participants"} for name in about}
    return {**own, **{column.name: column.entry() for column in columns()}, **joined}


def _one_based(path: tuple[str | int, ...]) -> Iterator[str | int]:
    return (key + 1 if isinstance(key, int) else key for key in path)


def _places() -> Iterator[Column]:
    """Yield the columns of all territories and their parts, and of all regions."""
    territories = load_atlas("territories").entries
    majors = dict.fromkeys((entry.group, entry.side) for entry in territories)
    parts = dict.fromkeys((entry.name, entry.side) for entry in territories)
    regions = dict.fromkeys((entry.name, entry.side) for entry in load_atlas("regions").entries)
    for kind, places in (("territories", {**majors, **parts}), ("regions", regions)):
        one = _KINDS[kind]
        for name, side in places:
            where = f"{one} {name} {side}".strip()
            lead = _place_name(kind, name, side)
            for measure, text, unit in (
                ("ml", f"Lesion volume in the {where}", "ml"),
                (f"share_of_{one}", f"Share of the scanned part of the {where} that is lesion", ""),
                ("share_of_lesion", f"Share of the lesion in the {where}", ""),
            ):
                yield Column(f"{lead}_{measure}", (kind,), text, unit, "0")


def _place_name(kind: str, name: str, side: str | None) -> str:
    return "_".join(word for word in (kind, name, side) if word).replace(" ", "_")


def _measured_places(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of the territories and regions that a summary lists."""
    found = {}
    for kind in _KINDS:
        rows = [(row, *row.get("subterritories", ())) for row in summary.get(kind) or ()]
        for row in chain.from_iterable(rows):
            lead = _place_name(kind, row["name"], row["side"])
            for key, value in row.items():
                if isinstance(value, float):
                    found[f"{lead}_{key}"] = f"{value:.6g}"
    return found


def _value(summary: Mapping[str, Any], path: tuple[str | int, ...]) -> Any:
    value: Any = summary
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def _cell(column: Column, value: Any) -> str:
    if value is None:
        return column.absent
    if column.name in {"warnings", "notes"}:
        return ";".join(finding["code"] for finding in value) or EMPTY
    if column.name in {"lesions", "corrections"}:
        value = len(value)
    if column.name == "seconds":
        value = float(sum(value.values()))
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = ";".join(value) if isinstance(value, list) else str(value)
    return text or EMPTY
