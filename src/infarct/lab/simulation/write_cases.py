"""Synthetic cases as folders of NIfTI files, each as some scanner would have saved it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from infarct.core.geometry import MNI_GRID, Affine
from infarct.core.nifti import Volume, read, write
from infarct.core.serialization import write_tsv
from infarct.lab.simulation import acquisition, scanner, tissue
from infarct.lab.simulation.cohort import Cohort
from infarct.lab.simulation.lesion_shapes import SITES
from infarct.lab.simulation.sampling import draw
from infarct.lab.simulation.scan_parameters import Record
from infarct.lab.simulation.scanner import SimulatedScan
from infarct.lab.simulation.tissue import Head
from infarct.lab.simulation.warp import CENTRE_MM, SHAPE
from infarct.lab.sources.bank import Bank
from infarct.measurement.localization import locate
from infarct.preprocessing.case import CaseFiles

ADC_UNITS = {"mm2/s": 1.0, "1e-3 mm2/s": 1e3, "1e-6 mm2/s": 1e6}
"""Name -> how many of the unit one mm^2/s is."""

APART = 1_000_000
"""Between the indices of two patients drawn for one place in a cohort; no cohort is that large."""

ATTEMPTS = 100
"""Patients drawn for one place; of any cohort most infarcts are visible."""


@dataclass(frozen=True)
class Saving:
    """Where the head lay in the scanner, and how its console saved the images.

    Attributes:
        turn_deg: Rotation of the head about z, against MNI space.
        scale: Size of the head along x and y, against MNI space.
        shift_mm: Position along x, y, z, against MNI space.
        oblique_deg: Tilt of the slices in the header about x, y and z.
        axes: Stored order of the axes x, y, z.
        flipped: Whether each stored axis runs backwards.
        dtype: Stored type of DWI and b0.
        signal_max: What the brightest signal is stored as.
        adc_unit: Key of `ADC_UNITS`.
    """

    turn_deg: float
    scale: tuple[float, float]
    shift_mm: tuple[float, float, float]
    oblique_deg: tuple[float, float, float]
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    dtype: str
    signal_max: float
    adc_unit: str


def draw_saving(seed: int, index: int) -> Saving:
    """Draw how one case is saved; a stream of its own beside the record's."""
    rng = np.random.default_rng([seed, index, 1])
    stored_z_first = rng.random() < 0.15
    order = (2, 0, 1) if stored_z_first else (0, 1, 2)
    x, y = rng.uniform(0.93, 1.07, 2)
    shift = rng.normal(0, (3, 5, 6))
    tilts = rng.normal(0, (8, 3, 3)) if rng.random() < 0.6 else np.zeros(3)
    flips = rng.random(3) < (0.5, 0.3, 0.15)
    return Saving(
        turn_deg=float(rng.normal(0, 4)),
        scale=(float(x), float(y)),
        shift_mm=(float(shift[0]), float(shift[1]), float(shift[2])),
        oblique_deg=(float(tilts[0]), float(tilts[1]), float(tilts[2])),
        axes=order,
        flipped=(bool(flips[0]), bool(flips[1]), bool(flips[2])),
        dtype=str(rng.choice(["int16", "float32"])),
        signal_max=float(rng.choice([400.0, 1500.0, 4000.0, 20000.0])),
        adc_unit=str(rng.choice(list(ADC_UNITS))),
    )


def scanner_from_mni(saving: Saving) -> Affine:
    """Return the (4, 4) in-plane transform, mm, from MNI space to where the head lay."""
    angle = np.deg2rad(saving.turn_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:2, :2] = turn @ np.diag(saving.scale)
    centre = np.array(CENTRE_MM)
    affine[:3, 3] = centre + saving.shift_mm - affine[:3, :3] @ centre
    return affine


def place(head: Head, transform: Affine) -> Head:
    """Move a head on the 1 mm lattice.

    Args:
        head: In MNI space.
        transform: (4, 4) scanner from MNI, mm.
    """
    origin = np.eye(4)
    origin[:3, 3] = MNI_GRID.affine[:3, 3]
    back = np.linalg.inv(origin) @ np.linalg.inv(transform) @ origin
    # grid_sample counts in -1 .. 1 and names the last axis first.
    size = np.array(SHAPE) - 1.0
    unit = np.diag([*(2 / size), 1.0])
    unit[:3, 3] = -1
    theta = (unit @ back @ np.linalg.inv(unit))[:3][::-1][:, [2, 1, 0, 3]]
    grid = functional.affine_grid(
        torch.from_numpy(theta.copy())[None].to(head.b0), [1, 1, *SHAPE], align_corners=True
    )
    moved = [
        functional.grid_sample(image[None, None], grid, align_corners=True)[0, 0]
        for image in (head.b0, head.adc, head.lesion, head.brain)
    ]
    return Head(*moved)


def mni_from_native(saving: Saving) -> Affine:
    """Return the (4, 4) transform, mm, from the world of the files back to MNI space.

    The head was also bent elastically, which this leaves out.
    """
    return np.asarray(np.linalg.inv(_tilt(saving) @ scanner_from_mni(saving)))


def native_affine(record: Record, saving: Saving) -> Affine:
    """Return the voxel -> world of the grid before its axes are stored in another order."""
    return np.asarray(_tilt(saving) @ acquisition.grid(record.acquisition).affine)


def _tilt(saving: Saving) -> Affine:
    """Return the (4, 4) turn from where the head lay to the oblique world of the files."""
    x, y, z = np.deg2rad(saving.oblique_deg)
    cx, sx, cy, sy, cz, sz = np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(z), np.sin(z)
    tilt = np.eye(4)
    tilt[:3, :3] = (
        np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    )
    return tilt


def stored(data: NDArray[np.float32], affine: Affine, saving: Saving) -> Volume:
    """Store an image with its axes in another order and direction; the world stays the same."""
    columns = affine[:, [*saving.axes, 3]].copy()
    data = data.transpose(saving.axes)
    for axis, backwards in enumerate(saving.flipped):
        if backwards:
            data = np.flip(data, axis)
            columns[:, 3] += columns[:, axis] * (data.shape[axis] - 1)
            columns[:, axis] *= -1
    return Volume(np.ascontiguousarray(data), columns)


def hemisphere(lesion: torch.Tensor, saving: Saving) -> str:
    """Say on which side of the head, placed as it is, nine tenths of a lesion lie.

    Args:
        lesion: (192, 224, 192) share of infarct, after `place`.
        saving: Where the head lies.

    Returns:
        `left`, `right`, `both`, or "" without a lesion.
    """
    at = torch.nonzero(lesion > 0.5).double()
    if not len(at):
        return ""
    mm = at.numpy() + MNI_GRID.affine[:3, 3]
    mni_from_scanner = np.linalg.inv(scanner_from_mni(saving))
    x = mm @ mni_from_scanner[0, :3] + mni_from_scanner[0, 3]
    right = float((x > 0).mean())
    return "right" if right > 0.9 else "left" if right < 0.1 else "both"


def make_case(cohort: Cohort, bank: Bank, seed: int, index: int, folder: Path) -> None:
    """Draw, scan and save one case of a cohort.

    A patient whose infarct no reader would see on the scan belongs to no cohort of visible
    infarcts: another is drawn instead.

    Args:
        cohort: From what.
        bank: Where anatomies and lesions come from.
        seed: Of the series of cases.
        index: Of the case in it.
        folder: As in `save_case`.

    Raises:
        RuntimeError: If no infarct of many can be seen.
    """
    saving = draw_saving(seed, index)
    for attempt in range(ATTEMPTS):
        record = draw(cohort, bank, seed, index + attempt * APART)
        head, scan = scan_placed(record, saving, bank)
        if not record.lesions or scan.lesion.any():
            _save(head, scan, saving, folder)
            return
    raise RuntimeError(f"no infarct of {ATTEMPTS} drawn from cohort {cohort.name!r} can be seen")


def ensure_case(cohort: Cohort, bank: Bank, seed: int, index: int, folder: Path) -> CaseFiles:
    """Make a case as `make_case` does, unless a run that was broken off has made it.

    Returns:
        What it was saved as.
    """
    if not (folder / "record.json").is_file():
        make_case(cohort, bank, seed, index, folder)
    return files_of(folder)


def files_of(folder: Path) -> CaseFiles:
    """Return what a case was saved as, to be opened like any scan.

    Args:
        folder: As in `save_case`.
    """
    facts = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    dwi, b0, adc = (folder / f"{kind}.nii.gz" for kind in ("dwi", "b0", "adc"))
    return CaseFiles(dwi, b0, adc, facts["bvalue"])


def scan_placed(record: Record, saving: Saving, bank: Bank) -> tuple[Head, SimulatedScan]:
    """Scan the head of a record where it lay in the scanner."""
    head = place(tissue.build(record, bank, "cpu"), scanner_from_mni(saving))
    return head, scanner.acquire(head, record)


def save_case(record: Record, saving: Saving, bank: Bank, folder: Path) -> None:
    """Scan one record and save the case.

    Args:
        record: What was drawn.
        saving: How it is saved.
        bank: Where anatomy and lesions come from.
        folder: Made if absent; gets `dwi`, `b0`, `adc`, `lesion` and `brain` (`.nii.gz`) and
            `record.json`.
    """
    _save(*scan_placed(record, saving, bank), saving, folder)


def _save(head: Head, scan: SimulatedScan, saving: Saving, folder: Path) -> None:
    record = scan.record
    affine = native_affine(record, saving)
    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str, image: torch.Tensor, scale: float, dtype: str) -> None:
        data = image.float().numpy() * np.float32(scale)
        data = np.rint(data) if dtype != "float32" else data
        write(stored(data, affine, saving), folder / f"{name}.nii.gz", dtype)

    scale = saving.signal_max / float(scan.b0.max())
    keep("dwi", scan.dwi, scale, saving.dtype)
    keep("b0", scan.b0, scale, saving.dtype)
    whole = saving.adc_unit == "1e-6 mm2/s"
    keep("adc", scan.adc, ADC_UNITS[saving.adc_unit], "int16" if whole else "float32")
    keep("lesion", scan.lesion, 1.0, "uint8")
    keep("brain", scan.true_brain, 1.0, "uint8")
    voxel_ml = acquisition.grid(record.acquisition).voxel_ml
    facts = {
        "bvalue": record.acquisition.bvalue,
        "lesion_ml": float(scan.lesion.sum()) * voxel_ml,
        "hemisphere": hemisphere(head.lesion, saving),
        "phase": record.lesions[0].kind if record.lesions else "",
        "territories": sorted({SITES[s.site].territory for s in record.lesions if s.site}),
        "mimics": sorted({s.kind for s in record.mimics}),
        "scanner_from_mni": scanner_from_mni(saving).tolist(),
        "saving": asdict(saving),
        "record": record.to_json(),
    }
    text = json.dumps(facts, indent=1)
    (folder / "record.json").write_text(text + "\n", encoding="utf-8")


def write_subjects(out: Path) -> None:
    """List all cases below a folder in `subjects.tsv`, as `infarct evaluate` reads it.

    The territory is the one that holds most of the visible infarcts.

    Args:
        out: Folder of the cases, at any depth; the table is written into it.
    """
    rows = []
    for file in sorted(out.rglob("record.json")):
        facts = json.loads(file.read_text(encoding="utf-8"))
        record = facts["record"]
        territory = _territory(file.parent, Saving(**facts["saving"]))
        values = (file.parent.name, record["cohort"], territory, facts["hemisphere"])
        rows.append([value or "n/a" for value in (*values, facts["phase"])])
    columns = ("participant_id", "cohort", "territory", "hemisphere", "phase")
    write_tsv(out / "subjects.tsv", columns, rows)


def _territory(folder: Path, saving: Saving) -> str:
    """Look up the territory that holds most of the infarcts of a case; "" without one."""
    lesion = read(folder / "lesion.nii.gz")
    found = locate(lesion.data > 0, lesion.grid, mni_from_native(saving)).territories
    return found[0].name if found else ""


def synthesise(cohort: Cohort, bank: Bank, count: int, seed: int, out: Path) -> Iterator[Path]:
    """Write `count` cases of a cohort and yield the folder of each; then list them all."""
    for index in range(count):
        folder = out / f"{cohort.name}-{seed:04d}-{index:04d}"
        make_case(cohort, bank, seed, index, folder)
        yield folder
    write_subjects(out)
