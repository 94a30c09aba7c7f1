"""Names, sidecars and description of what is written about a BIDS dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from infarct.bids.dataset import BidsScan
from infarct.cohort.jobs import Export, Job
from infarct.core.errors import OutputError

SPACE = "MNI152NLin2009aSym"
REPORTS = "reports"
"""Folder of what BIDS has no names for: pages, tables of lesions, manifests; a folder per scan."""

_BIDS_VERSION = "1.10.0"

_SIDECARS: dict[str, tuple[str, dict[str, Any]]] = {
    "lesion_mask.nii.gz": (
        "space-orig_label-lesion_mask.nii.gz",
        {"Type": "Lesion", "Description": "Acute ischemic lesions, on the grid of the DWI"},
    ),
    "brain_mask.nii.gz": (
        "space-orig_label-brain_mask.nii.gz",
        {"Type": "Brain", "Description": "Brain, on the grid of the DWI"},
    ),
    "lesion_probability.nii.gz": (
        "space-orig_label-lesion_probseg.nii.gz",
        {"Description": "Probability of acute ischemic lesion, on the grid of the DWI"},
    ),
    "mni/lesion_mask.nii.gz": (
        f"space-{SPACE}_label-lesion_mask.nii.gz",
        {"Type": "Lesion", "Description": "Acute ischemic lesions; volumes: see space-orig"},
    ),
    "mni/lesion_probability.nii.gz": (
        f"space-{SPACE}_label-lesion_probseg.nii.gz",
        {"Description": "Probability of acute ischemic lesion"},
    ),
    "mni/is_map.nii.gz": (
        f"space-{SPACE}_label-lesion_desc-ismap_probseg.nii.gz",
        {"Description": "Modified c-fuzzy map of ischemic tissue, 0 to 1"},
    ),
    "mni/dwi.nii.gz": (
        f"space-{SPACE}_trace.nii.gz",
        {"SkullStripped": False, "Description": "Diffusion-weighted image"},
    ),
    "mni/b0.nii.gz": (
        f"space-{SPACE}_S0map.nii.gz",
        {"SkullStripped": False, "Description": "Image without diffusion weighting"},
    ),
    "mni/adc.nii.gz": (
        f"space-{SPACE}_ADC.nii.gz",
        {"SkullStripped": False, "Description": "ADC, mm^2/s", "Units": "mm^2/s"},
    ),
    "mni/dwi_normalised.nii.gz": (
        f"space-{SPACE}_desc-normalised_trace.nii.gz",
        {"SkullStripped": True, "Description": "DWI, tissue peak at mean 0 and SD 1"},
    ),
    "mni/mni_from_native.txt": (
        f"from-orig_to-{SPACE}_mode-points_xfm.txt",
        {"Description": "4 x 4 matrix from the world of the DWI to MNI, mm, RAS+ on both sides"},
    ),
}
"""BIDS name, after the entities, and sidecar of what `infarct segment` writes."""

_HIDDEN = ".*.partial-*\n.*.old-*\n.*.lock\n"
"""Names that files bear while somebody writes; lines of `.bidsignore`."""

_README = """# infarct: acute ischemic lesions

Made by infarct from the diffusion scans of a BIDS dataset (its version: dataset_description.json).
For research; not a medical device.

- `sub-*/[ses-*/]dwi/`: masks and probabilities in the space of each scan (`space-orig`) and in MNI
  (`space-{space}`), the scan in MNI, and the transform.
- `reports/*/`: for every scan the page to look at (`report.html`), its numbers (`summary.json`),
  its lesions (`lesions.tsv`) and how it was made (`manifest.json`).
- `cases.tsv`: what became of every scan; failures with the reason.
- `group/`: after `infarct bids ... group` the page about all scans, their numbers joined with
  participants.tsv, and the map of all lesions.
"""


def jobs_of(scans: Sequence[BidsScan], root: Path, out: Path) -> list[Job]:
    """Return what is to be done for each scan.

    Args:
        scans: Of the dataset.
        root: Folder of the dataset.
        out: Folder of the derivatives.
    """
    root, out = root.resolve(), out.resolve()
    jobs = []
    for scan in scans:
        session = f"ses-{scan.entities['ses']}" if "ses" in scan.entities else ""
        folder = out / f"sub-{scan.entities['sub']}" / session / "dwi"
        sources = [_uri(path, root) for path in scan.files.paths().values()]
        exports = tuple(
            Export(
                name,
                folder / f"{scan.name}_{ending}",
                {
                    **sidecar,
                    "Sources": sources,
                    **({"SpatialReference": sources[0]} if "space-orig" in ending else {}),
                },
            )
            for name, (ending, sidecar) in _SIDECARS.items()
        )
        jobs.append(Job(scan.name, scan.files, out / REPORTS / scan.name, exports, scan.problem))
    return jobs


def check_place(root: Path, out: Path) -> None:
    """Refuse to write into a dataset, except into its derivatives.

    Raises:
        OutputError: If `out` is, holds or lies in `root`, and not in `root/derivatives/...`.
    """
    root, out = root.resolve(), out.resolve()
    derivatives = root / "derivatives"
    inside = out == root or root in out.parents
    if out in root.parents or (inside and derivatives not in out.parents):
        raise OutputError(
            f"{out} would mix results with the dataset {root}; give a folder elsewhere, or below "
            f"{derivatives}"
        )


def describe(root: Path, out: Path) -> None:
    """Write what a BIDS dataset of derivatives needs besides its images.

    A README or `.bidsignore` that is there stays: somebody may have added to it.

    Raises:
        OutputError: If it cannot be written, or another software's derivatives are there, or
            somebody else's README or `.bidsignore`.
    """
    root, out = root.resolve(), out.resolve()
    description = {
        "Name": "infarct: acute ischemic lesions",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "infarct", "Version": version("infarct")}],
        "DatasetLinks": {"raw": Path(os.path.relpath(root, out)).as_posix()},
    }
    files = {
        "dataset_description.json": json.dumps(description, indent=1) + "\n",
        "README.md": _README.format(space=SPACE),
        ".bidsignore": f"/{REPORTS}\n/group\n/cases.tsv\n/.cases\n*_xfm.*\n{_HIDDEN}",
    }
    try:
        # Looked for before the description: of ours, another job of an array writes that first.
        there = sorted(path.name for path in (*out.glob("README*"), *out.glob(".bidsignore")))
        if (out / "dataset_description.json").is_file():
            names = _makers(json.loads((out / "dataset_description.json").read_text("utf-8")))
            if names != ["infarct"]:
                raise OutputError(
                    f"{out} holds a dataset made by {', '.join(names) or 'other software'}; give a "
                    "folder of its own"
                )
        elif there:
            raise OutputError(
                f"{out} holds {' and '.join(there)} but no dataset_description.json, so it is no "
                "dataset made by infarct; nothing was written: give a folder of its own"
            )
        out.mkdir(parents=True, exist_ok=True)
        for name in [name for name in files if name not in there]:
            # Jobs of an array start at once, in containers even with the same process number.
            partial = out / f".{name}.partial-{uuid4().hex}"
            partial.write_text(files[name], encoding="utf-8")
            partial.replace(out / name)
    except (OSError, ValueError) as error:
        raise OutputError(f"{out} cannot be written: {error}") from error


def _makers(description: Any) -> list[str]:
    """Return who made a dataset by its own description, whatever shape others give that."""
    makers = description.get("GeneratedBy") if isinstance(description, dict) else None
    makers = makers if isinstance(makers, list) else [makers]
    return [str(maker["Name"]) for maker in makers if isinstance(maker, dict) and "Name" in maker]


def _uri(path: Path, root: Path) -> str:
    """Return the BIDS URI of a file of the dataset."""
    return f"bids:raw:{path.absolute().relative_to(root).as_posix()}"
