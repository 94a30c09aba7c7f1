"""Build the measurements in `summary.json` and write `lesions.tsv` and `regions.tsv`."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from infarct.core.serialization import finite, table_cell, write_tsv
from infarct.measurement.anatomy import Anatomy
from infarct.measurement.localization import LesionLocation, Localization, Part
from infarct.measurement.volumetry import Lesion, Measurements, is_doubtful

_PLACE = [field.name for field in fields(LesionLocation) if field.name != "label"]


def numbers(measurements: Measurements, anatomy: Anatomy) -> dict[str, Any]:
    """Return the measurements for `summary.json`; undefined numbers are None."""
    places = anatomy.places
    content: dict[str, Any] = finite(
        {
            **asdict(measurements),
            "doubtful_count": sum(map(_doubtful, measurements.lesions)),
            "volume_without_doubtful_ml": math.fsum(
                lesion.volume_ml for lesion in measurements.lesions if not _doubtful(lesion)
            ),
            "lesions": [
                {
                    **asdict(lesion),
                    "doubtful": _doubtful(lesion),
                    **{name: getattr(place, name) for name in _PLACE},
                }
                for lesion, place in _lesions(measurements, places)
            ],
            "territories": [_part(part, "territory") for part in places.territories],
            "regions": [_part(part, "region") for part in places.regions],
            "aspects": asdict(anatomy.aspects) if anatomy.aspects else None,
            "pc_aspects": asdict(anatomy.pc_aspects) if anatomy.pc_aspects else None,
            "pattern": asdict(places.pattern),
        }
    )
    return content


def _doubtful(lesion: Lesion) -> bool:
    return is_doubtful(lesion.probability, lesion.adc_ratio)


def write_tables(measurements: Measurements, places: Localization, folder: Path) -> None:
    """Write `lesions.tsv` (a row per lesion) and `regions.tsv` (a row per territory or region)."""
    _write_lesions(measurements, places, folder / "lesions.tsv")
    _write_regions(places, folder / "regions.tsv")


def _lesions(
    measurements: Measurements, places: Localization
) -> list[tuple[Lesion, LesionLocation]]:
    return list(zip(measurements.lesions, places.lesions, strict=True))


def _part(part: Part, kind: str) -> dict[str, Any]:
    """Return a row of the territory table (including sub-territories) or the region table."""
    own = (
        {"subterritories": [_part(p, kind) for p in part.parts]}
        if kind == "territory" and part.parts
        else {}
    )
    return {
        "name": part.name,
        "side": part.side,
        **({"class": part.group} if kind == "region" else {}),
        "ml": part.ml,
        f"share_of_{kind}": part.share_of_part,
        "share_of_lesion": part.share_of_lesion,
        **own,
    }


def _write_lesions(measurements: Measurements, places: Localization, path: Path) -> None:
    header = [field.name for field in fields(Lesion)]
    columns = []
    for name in header:
        split = name.startswith("centroid")
        stem = name.removesuffix("_mm")
        columns += [f"{stem}_{axis}_mm" for axis in "xyz"] if split else [name]
    rows = []
    for lesion, place in _lesions(measurements, places):
        row: list[str] = []
        for name in header:
            value = getattr(lesion, name)
            row += (
                [table_cell(v) for v in value] if isinstance(value, tuple) else [table_cell(value)]
            )
        doubtful = "yes" if _doubtful(lesion) else "no"
        rows.append([*row, doubtful, *(getattr(place, name) for name in _PLACE)])
    write_tsv(path, [*columns, "doubtful", *_PLACE], rows)


def _write_regions(places: Localization, path: Path) -> None:
    kinds = (
        ("territory", places.territories),
        ("sub-territory", [part for major in places.territories for part in major.parts]),
        ("region", places.regions),
    )
    rows = [
        [kind, part.name, part.side or "n/a", part.group]
        + [table_cell(n) for n in (part.ml, part.share_of_part, part.share_of_lesion)]
        for kind, parts in kinds
        for part in parts
    ]
    columns = ["kind", "name", "side", "group", "ml", "share_of_region", "share_of_lesion"]
    write_tsv(path, columns, rows)
