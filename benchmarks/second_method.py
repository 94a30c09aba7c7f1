"""Count the cohort cases whose lesion mask the second method does not confirm.

    python benchmarks/second_method.py OUT [--model ensemble]

OUT is the folder of `benchmarks/cohorts.py`, with the masks of the model and of the c-fuzzy map.
Prints what is said of outlines that touch an infarct, of those that touch none, and of none.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from infarct.core.nifti import read
from infarct.segmentation.models import DEFAULT
from infarct.segmentation.predict import SECOND_METHOD
from infarct.uncertainty.second_method import compare_methods, second_method_findings

SAID = ("warning", "note", "nothing")


def look_at(mask: Path, out: Path) -> tuple[str, str]:
    """Return the group of an outline, and what is said of it."""
    name = Path(mask.parent.parent.name) / mask.parent.name
    outline = read(mask)
    lesion = outline.data > 0
    truth = read(out / "cases" / name / "lesion.nii.gz").data > 0
    second = read(out / SECOND_METHOD / name / mask.name).data > 0
    comparison = compare_methods(lesion, second, outline.grid, outline.slice_axis, SECOND_METHOD)
    found = second_method_findings(comparison, float(lesion.sum()) * outline.grid.voxel_ml)
    group = "nothing outlined"
    if lesion.any():
        group = "touches an infarct" if (lesion & truth).any() else "touches none"
    return group, found[0].level if found else "nothing"


def main() -> None:
    """Run over all masks of a model and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=DEFAULT)
    options = parser.parse_args()
    masks = sorted((options.out / options.model).rglob("lesion_mask.nii.gz"))
    if not masks:
        parser.error(f"{options.out / options.model} holds no masks; run benchmarks/cohorts.py")
    said = Counter(look_at(mask, options.out) for mask in track(masks, "scans"))
    table = Table("outline", *SAID)
    for group in sorted({group for group, _ in said}):
        table.add_row(group, *(str(said[group, level]) for level in SAID))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
