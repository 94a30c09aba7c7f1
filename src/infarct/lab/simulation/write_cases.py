"""Write synthetic cases as folders of NIfTI files, with variable scanner and file conventions."""

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
"""Unit -> factor that converts mm^2/s to this unit."""

APART = 1_000_000
"""Index offset between successive attempts for one case; larger than any cohort."""

ATTEMPTS = 100
"""Maximum number of patients drawn per case. In every cohort, most infarcts are visible."""


@dataclass(frozen=True)
class Saving:
    """Position of the head in the scanner, and file conventions of the images.

    Attributes:
        turn_deg: Rotation of the head about z relative to MNI space.
        scale: Size of the head along x and y relative to MNI space.
        shift_mm: Translation along x, y and z relative to MNI space.
        oblique_deg: Tilt of the slices in the header about x, y and z.
        axes: Stored order of the axes x, y and z.
        flipped: Whether each stored axis is reversed.
        dtype: Data type of DWI and b0.
        signal_max: Stored value of the maximum signal.
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
    """Draw position and file conventions of one case, from a random stream of their own.

    Args:
        seed: Seed of the series.
        index: Index of the case.
    """
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
    """Return the (4, 4) in-plane transform, mm, from MNI space to scanner space."""
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
        head: Head in MNI space.
        transform: (4, 4) transform scanner_from_mni, mm.

    Returns:
        The head in scanner space.
    """
    origin = np.eye(4)
    origin[:3, 3] = MNI_GRID.affine[:3, 3]
    back = np.linalg.inv(origin) @ np.linalg.inv(transform) @ origin
    # grid_sample uses coordinates from -1 to 1, last axis first.
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
    """Return the (4, 4) transform, mm, from the world space of the files to MNI space.

    The elastic deformation of the head is not included.
    """
    return np.asarray(np.linalg.inv(_tilt(saving) @ scanner_from_mni(saving)))


def native_affine(record: Record, saving: Saving) -> Affine:
    """Return the (4, 4) voxel -> world transform, mm, before the axes are reordered for storage."""
    return np.asarray(_tilt(saving) @ acquisition.grid(record.acquisition).affine)


def _tilt(saving: Saving) -> Affine:
    """Return the (4, 4) rotation from scanner space to the oblique world space of the files."""
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
    """Reorder and flip the axes of an image; world coordinates are unchanged.

    Args:
        data: (X, Y, Z).
        affine: (4, 4) voxel -> world transform, mm.
        saving: Order and direction of the stored axes.
    """
    columns = affine[:, [*saving.axes, 3]].copy()
    data = data.transpose(saving.axes)
    for axis, backwards in enumerate(saving.flipped):
        if backwards:
            data = np.flip(data, axis)
            columns[:, 3] += columns[:, axis] * (data.shape[axis] - 1)
            columns[:, axis] *= -1
    return Volume(np.ascontiguousarray(data), columns)


def hemisphere(lesion: torch.Tensor, saving: Saving) -> str:
    """Return the side of the head that contains more than 90% of a lesion.

    Args:
        lesion: (192, 224, 192) lesion fraction, after `place`.
        saving: Position of the head.

    Returns:
        `left`, `right`, `both`, or "" if there is no lesion.
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
    """Draw, simulate and save one case of a cohort.

    If the infarct would not be visible to a reader, another patient is drawn.

    Args:
        cohort: Distribution of the patients.
        bank: Source of anatomies, lesion masks and backgrounds.
        seed: Seed of the series.
        index: Index of the case in the series.
        folder: Output folder, as in `save_case`.

    Raises:
        RuntimeError: If none of `ATTEMPTS` infarcts is visible.
    """
    saving = draw_saving(seed, index)
    for attempt in range(ATTEMPTS):
        record = draw(cohort, bank, seed, index + attempt * APART)
        head, scan = scan_placed(record, saving, bank)
        if not record.lesions or scan.lesion.any():
            write_case(head, scan, saving, folder)
            return
    raise RuntimeError(f"none of {ATTEMPTS} infarcts drawn from cohort {cohort.name!r} is visible")


def ensure_case(cohort: Cohort, bank: Bank, seed: int, index: int, folder: Path) -> CaseFiles:
    """Create a case with `make_case` unless an earlier run has completed it.

    Args:
        cohort: Distribution of the patients.
        bank: Source of anatomies, lesion masks and backgrounds.
        seed: Seed of the series.
        index: Index of the case in the series.
        folder: Output folder, as in `save_case`.

    Returns:
        The files of the case.
    """
    if not (folder / "record.json").is_file():
        make_case(cohort, bank, seed, index, folder)
    return files_of(folder)


def files_of(folder: Path) -> CaseFiles:
    """Return the files of a saved case.

    Args:
        folder: Folder of the case, as in `save_case`.
    """
    facts = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    dwi, b0, adc = (folder / f"{kind}.nii.gz" for kind in ("dwi", "b0", "adc"))
    return CaseFiles(dwi, b0, adc, facts["bvalue"])


def scan_placed(record: Record, saving: Saving, bank: Bank) -> tuple[Head, SimulatedScan]:
    """Simulate the scan of a record with the head in scanner space."""
    head = place(tissue.build(record, bank, "cpu"), scanner_from_mni(saving))
    return head, scanner.acquire(head, record)


def save_case(record: Record, saving: Saving, bank: Bank, folder: Path) -> None:
    """Simulate one record and save the case.

    Args:
        record: Parameters of the scan.
        saving: Position and file conventions.
        bank: Source of anatomies, lesion masks and backgrounds.
        folder: Output folder, created if needed, for `dwi`, `b0`, `adc`, `lesion` and `brain`
            (`.nii.gz`) and `record.json`.
    """
    write_case(*scan_placed(record, saving, bank), saving, folder)


def write_case(head: Head, scan: SimulatedScan, saving: Saving, folder: Path) -> None:
    """Write a simulated scan; files as in `save_case`.

    Args:
        head: The head in scanner space.
        scan: Its scan on the native grid.
        saving: Position and file conventions.
        folder: Output folder, created if needed.
    """
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
    integer = saving.adc_unit == "1e-6 mm2/s"
    keep("adc", scan.adc, ADC_UNITS[saving.adc_unit], "int16" if integer else "float32")
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
    """List all cases below a folder in `subjects.tsv`, the input of `infarct evaluate`.

    The territory of a case is the one that contains most of the visible infarcts.

    Args:
        out: Folder that contains the cases at any depth; the table is written here.
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
    """Return the territory that contains most of the lesion of a case; "" without a lesion."""
    lesion = read(folder / "lesion.nii.gz")
    found = locate(lesion.data > 0, lesion.grid, mni_from_native(saving)).territories
    return found[0].name if found else ""


def synthesise(cohort: Cohort, bank: Bank, count: int, seed: int, out: Path) -> Iterator[Path]:
    """Write cases of a cohort and list them in `subjects.tsv`.

    Args:
        cohort: Distribution of the patients.
        bank: Source of anatomies, lesion masks and backgrounds.
        count: Number of cases.
        seed: Seed of the series.
        out: Output folder.

    Yields:
        The folder of each case.
    """
    for index in range(count):
        folder = out / f"{cohort.name}-{seed:04d}-{index:04d}"
        make_case(cohort, bank, seed, index, folder)
        yield folder
    write_subjects(out)
