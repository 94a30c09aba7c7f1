"""Damage small DICOM folders element by element and see that none becomes a wrong image.

    python benchmarks/fuzz_dicom.py [--mutants 500] [--seed 0] [--keep FOLDER]

Each mutant is a folder of one or two series as Siemens, GE, Philips, United Imaging or Canon write
them, in which one to three things are damaged: elements of one file or of all, or the files
themselves. `opened_folder` must refuse it with an `InfarctError`, or convert it so that an
independent reader finds every pixel of the DWI and the b0 at the place that the headers give. The
independent reader uses pydicom and the equations of the standard, and nothing of this package.

`run_mutant(seed, folder)` runs one mutant and can be called from another campaign.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless, generate_uid

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "dicom"))

from dicom_scanner import (
    ADC,
    CLASSIC,
    ENHANCED,
    IDENTIFIERS,
    MAKERS,
    Plane,
    Protocol,
    Study,
    save_classic,
    save_enhanced,
    save_mosaic,
)

from infarct.core.errors import InfarctError
from infarct.dicom import DicomCase, find_source_images, opened_folder

B0_BELOW = 50.0
MR_CLASSES = {CLASSIC, ENHANCED}
TURN = np.deg2rad(20)
PLANES = (
    Plane((-48.0, -64.0, -20.0), spacing=(2.0, 2.0, 5.0)),
    Plane(
        (-40.0, -60.0, -20.0),
        row=(float(np.cos(TURN)), float(np.sin(TURN)), 0.0),
        column=(float(-np.sin(TURN)), float(np.cos(TURN)), 0.0),
        spacing=(2.5, 1.75, 4.0),
    ),
    Plane((-20.0, -60.0, 50.0), row=(0, 1, 0), column=(0, 0, -1), spacing=(2.0, 2.0, 5.0)),
)
ELEMENTS = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices"),
    *("SliceThickness", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation", "RescaleSlope"),
    *("RescaleIntercept", "SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID"),
    *("FrameOfReferenceUID", "SOPClassUID", "InstanceNumber", "AcquisitionNumber", "SeriesNumber"),
    *("ImageType", "Modality", "Manufacturer", "SeriesDescription", "DiffusionBValue"),
    *("SequenceName", "NumberOfFrames", "PatientID", "PatientName", "SpecificCharacterSet"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "EchoTime"),
    *("AcquisitionTime", "StudyDate", "DiffusionGradientOrientation"),
)
PRIVATE = (0x0019100C, 0x00431039, 0x20011003, 0x00651009, 0x00651051, 0x00291010, 0x00190010)
TEXTS = ("", "abc", "nan", "\x1b[31mred\x1b[0m", "1e400", "0", "-1", "9" * 40, "1\\2", "é漢")


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant.

    Attributes:
        verdict: `refused`; `right`, when every pixel is at its place; `wrong`; or `exception`.
        made: How the folder was made and damaged.
        detail: The message, or what is wrong.
        seconds: CPU time, dcm2niix included. Not wall time, because the machine may be paused or
            busy with other work.
    """

    verdict: str
    made: tuple[str, ...]
    detail: str
    seconds: float


def run_mutant(seed: int, folder: Path) -> Outcome:
    """Make one mutant and see what becomes of it.

    Args:
        seed: The same seed makes the same mutant, up to its UIDs.
        folder: An empty folder to make it in.
    """
    rng = Random(seed)
    made = [_scan(rng, folder)]
    made += [_damaged(rng, folder) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    before = _state(folder)
    start = _cpu_seconds()
    try:
        with warnings.catch_warnings():
            # Warnings of pydicom quote values, so none may reach the user.
            warnings.simplefilter("error")
            with opened_folder(folder) as case:
                _sources(case)
                warnings.simplefilter("ignore")
                verdict, detail = _judge(case, folder)
        told = " ".join(finding.message for finding in case.findings)
    except InfarctError as error:
        verdict, detail, told = "refused", str(error), str(error)
    except Exception as error:
        verdict, detail, told = "exception", f"{type(error).__name__}: {error}", ""
    seconds = _cpu_seconds() - start
    if any(name in told.replace(str(folder), "") for name in IDENTIFIERS) or "\x1b" in told:
        verdict, detail = "wrong", f"tells an identifier or control characters: {told}"
    if _state(folder) != before:
        verdict, detail = "wrong", "the input was changed"
    return Outcome(verdict, tuple(made), detail, seconds)


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _scan(rng: Random, folder: Path) -> str:
    """Save a DWI with its b0, sometimes with an ADC map beside it."""
    maker, plane = rng.choice(list(MAKERS)), rng.choice(PLANES)
    study, protocol = Study.new(maker), Protocol(4, "dwi")
    pixels = np.random.default_rng(rng.randrange(1 << 30))

    def volume(level: int) -> np.ndarray:
        return (level + pixels.integers(0, 60, (6, 32, 24))).astype(np.uint16)

    volumes = [(0, volume(900)), (1000, volume(400)), (1000, volume(420))]
    ways: list[Callable[..., str]] = [save_classic, save_classic, save_enhanced]
    ways += [save_mosaic] if maker in {"SIEMENS", "UIH"} else []
    way = rng.choice(ways)
    way(folder, study, protocol, plane, volumes)
    if rng.random() < 0.3:
        save_classic(folder, study, Protocol(5, "dwi", ADC), plane, [(None, volume(800))])
    return f"{way.__name__} {maker} plane {PLANES.index(plane)}"


def _damaged(rng: Random, folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return rng.choice(DAMAGES)(rng, folder)
        except Exception:
            # Damaged before so that pydicom can no longer read or write it.
            return "nothing"


def _files(rng: Random, folder: Path) -> list[Path]:
    """Choose one file, some, or all."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return rng.choice([[rng.choice(files)], rng.sample(files, (len(files) + 1) // 2), files])


def _open(path: Path) -> Dataset | None:
    try:
        return pydicom.dcmread(path)
    except Exception:
        return None


def _element(rng: Random, folder: Path) -> str:
    """Damage one element in some files, in the same way."""
    name = rng.choice([*ELEMENTS, *ELEMENTS[:7], *PRIVATE])
    kind = rng.choice(("delete", "empty", "text", "scale", "drop", "repeat", "negate", "zero"))
    text, factor = rng.choice(TEXTS), rng.choice((0.5, 2.0, 10.0, 1e-3, 1e6))
    files = _files(rng, folder)
    for path in files:
        data = _open(path)
        if data is None:
            continue
        try:
            for holder in _holders(data, name):
                _damage(holder, name, kind, text, factor)
            data.save_as(path)
        except Exception:
            # Already damaged beyond what pydicom can read or write.
            continue
    return f"{name if isinstance(name, str) else hex(name)} {kind} {text!r} {factor} x{len(files)}"


def _holders(data: Dataset, name: str | int) -> list[Dataset]:
    """Find the element wherever it is, in the groups of multi-frame files too."""
    found = [data] if name in data else []
    for element in data:
        if element.VR == "SQ" and element.keyword != name:
            found += [each for item in element.value[:40] for each in _holders(item, name)]
    return found


def _damage(data: Dataset, name: str | int, kind: str, text: str, factor: float) -> None:
    if kind == "delete":
        del data[name]
        return
    element = data[name]
    value = element.value
    several = list(value) if isinstance(value, pydicom.multival.MultiValue) else [value]
    numeric = all(isinstance(each, int | float) for each in several)
    if kind == "text":
        several = [text]
    elif kind == "drop":
        several = several[:-1]
    elif kind == "repeat":
        several = [*several, several[-1]]
    elif numeric and kind in {"scale", "negate", "zero"}:
        by = {"scale": factor, "negate": -1.0, "zero": 0.0}[kind]
        several = [str(each * by)[:16] if element.VR in {"DS", "IS"} else each for each in several]
        if element.VR in {"US", "UL", "FD", "FL"}:
            most = {"US": 65535, "UL": 2**32 - 1}.get(element.VR)
            numbers = [float(each) * by for each in (value if len(several) > 1 else [value])]
            several = [min(max(int(n), 0), most) if most else n for n in numbers]
    else:
        several = []
    # Around the checks of pydicom, as a damaged file comes around them.
    element._value = several[0] if len(several) == 1 else several or None
    if len(several) > 1:
        element._value = pydicom.multival.MultiValue(lambda each: each, several)


def _truncate(rng: Random, folder: Path) -> str:
    files = _files(rng, folder)
    share = rng.random()
    for path in files:
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return f"cut to {share:.2f} x{len(files)}"


def _empty(rng: Random, folder: Path) -> str:
    files = _files(rng, folder)
    for path in files:
        path.write_bytes(b"")
    return f"emptied x{len(files)}"


def _remove(rng: Random, folder: Path) -> str:
    files = _files(rng, folder)
    for path in files[: max(1, len(files) - 1)]:
        path.unlink()
    return f"removed x{len(files)}"


def _twice(rng: Random, folder: Path) -> str:
    files, new = _files(rng, folder), rng.random() < 0.5
    for path in files:
        data = _open(path)
        if data is None or not new:
            shutil.copyfile(path, path.with_name(f"again-{path.name}"))
            continue
        data.SOPInstanceUID = generate_uid()
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.save_as(path.with_name(f"again-{path.name}"))
    return f"twice {'under new UIDs' if new else 'copied'} x{len(files)}"


def _flip(rng: Random, folder: Path) -> str:
    files, where = _files(rng, folder), [rng.random() for _ in range(rng.choice((1, 4, 16)))]
    for path in files:
        content = bytearray(path.read_bytes())
        for share in where:
            if content:
                # The header, where a flipped bit matters most.
                content[int(share * min(len(content), 2000))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    return f"{len(where)} bits x{len(files)}"


def _bare(rng: Random, folder: Path) -> str:
    files, all_meta = _files(rng, folder), rng.random() < 0.5
    for path in files:
        content = path.read_bytes()
        start = content.find(b"\x08\x00\x08\x00") if all_meta else 132
        path.write_bytes(content[max(start, 0) :])
    return f"no preamble{' nor file meta' if all_meta else ''} x{len(files)}"


def _syntax(rng: Random, folder: Path) -> str:
    files, rle = _files(rng, folder), rng.random() < 0.7
    for path in files:
        data = _open(path)
        if data is None or "PixelData" not in data:
            continue
        try:
            if rle:
                data.compress(RLELossless, generate_instance_uid=False)
            else:
                data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
            data.save_as(path)
        except Exception:
            # Already damaged beyond what pydicom can encode.
            continue
    return f"{'RLE' if rle else 'deflated'} x{len(files)}"


def _litter(rng: Random, folder: Path) -> str:
    kind = rng.choice(("text", "random", "directory", "link"))
    path = folder / f"litter-{rng.randrange(1000)}"
    if kind == "text":
        path.write_text("Roe^Jane was here")
    elif kind == "random":
        path.write_bytes(b"\x08\x00\x05\x00" + rng.randbytes(300))
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(folder / "nowhere")
    return f"litter {kind}"


DAMAGES: tuple[Callable[[Random, Path], str], ...] = (
    *(_element,) * 12,
    *(_truncate, _empty, _remove, _twice, _flip, _flip, _bare, _syntax, _litter),
)


def _state(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def _sources(case: DicomCase) -> None:
    try:
        find_source_images(case.choice, keep_identity=False)
    except InfarctError:
        # A refusal is an answer.
        return


def _judge(case: DicomCase, folder: Path) -> tuple[str, str]:
    """Look for every frame of the DWI series in the image that was made of it."""
    series = nib.load(case.files.dwi)
    data = np.asarray(series.dataobj, dtype=float)
    data = data.reshape(*data.shape[:3], -1)
    bval = case.files.dwi.with_suffix(".bval")
    bvalues = (
        [float(word) for word in bval.read_text().split()]
        if bval.is_file()
        else [float(case.files.bvalue or 0)]
    )
    voxel_from_world = np.linalg.inv(series.affine)
    unexplained = Counter[int]()
    seen = 0
    # Images of the series that are reported as left out are not expected in the volume.
    reported = any(
        finding.code == "dicom-unusable" and "were not used" in finding.message
        for finding in case.findings
    )
    for path in sorted(folder.rglob("*")):
        image = _plain(path) if path.is_file() else None
        if image is None or str(image.SeriesInstanceUID).strip() != case.choice.dwi.series.uid:
            continue
        if reported and not _is_grey_mr(image):
            continue
        for bvalue, pixels, lps in _slices(image):
            low = bvalue is not None and bvalue < B0_BELOW
            # Where the header gives no b-value either class may be right.
            candidates = [i for i, b in enumerate(bvalues) if bvalue is None or (b < 50) == low]
            if not candidates:
                continue
            ras = np.vstack([lps * [[-1], [-1], [1]], np.ones(lps.shape[1])])
            voxels = (voxel_from_world @ ras)[:3]
            index = np.round(voxels).astype(int)
            spacing = np.linalg.norm(series.affine[:3, :3], axis=0)[:, None]
            off = float((np.abs(voxels - index) * spacing).max())
            inside = ((index >= 0) & (index < np.array(data.shape[:3])[:, None])).all()
            if off > 0.6 or not inside:
                return "wrong", f"a slice of the headers lies {off:.2f} mm off the image"
            shown = data[tuple(index)].T[candidates]
            if not any(np.allclose(each, pixels, rtol=1e-3, atol=0.51) for each in shown):
                return "wrong", f"a slice at b {bvalue} shows other pixels than its file"
            seen += 1
            unexplained[int(index[2, 0])] += 1
    if not seen or len(unexplained) != data.shape[2]:
        return "wrong", f"{len(unexplained)} of {data.shape[2]} slices can be traced to a file"
    return "right", "; ".join(f.code for f in case.findings)


def _is_grey_mr(image: Dataset) -> bool:
    grey = image.get("PhotometricInterpretation") == "MONOCHROME2"
    return grey and image.get("Modality") == "MR" and str(image.SOPClassUID) in MR_CLASSES


def _plain(path: Path) -> Dataset | None:
    try:
        image = pydicom.dcmread(path, force=True)
        # Of the files of the series only magnitude counts.
        if "PixelData" not in image or "SeriesInstanceUID" not in image:
            return None
        if "TransferSyntaxUID" not in image.file_meta:
            image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            if image.original_encoding[0]:
                image.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        usual = {"PhotometricInterpretation": "MONOCHROME2", "BitsStored": 16}
        for name, value in {**usual, "PixelRepresentation": 0}.items():
            if not isinstance(image.get(name), type(value)) or image.get(name) == "":
                setattr(image, name, value)
        _ = image.pixel_array
        return image
    except Exception:
        return None


def _slices(image: Dataset) -> list[tuple[float | None, np.ndarray, np.ndarray]]:
    """Return b-value, (P,) pixels and their (3, P) places, LPS mm, of every slice of a file.

    References:
        DICOM PS3.3, Equation C.7.6.2.1-1.
    """
    slope, intercept = (float(image.get(n, d) or d) for n, d in _RESCALE)
    pixels = image.pixel_array * slope + intercept
    groups = image.get("PerFrameFunctionalGroupsSequence")
    if groups:
        shared = image.SharedFunctionalGroupsSequence[0]
        found = []
        for frame, group in zip(np.atleast_3d(pixels), groups, strict=True):
            plane = (group.get("PlaneOrientationSequence") or shared.PlaneOrientationSequence)[0]
            measures = (group.get("PixelMeasuresSequence") or shared.PixelMeasuresSequence)[0]
            diffusion = group.MRDiffusionSequence[0] if "MRDiffusionSequence" in group else {}
            place = group.PlanePositionSequence[0].ImagePositionPatient
            axes, pitch = plane.ImageOrientationPatient, measures.PixelSpacing
            bvalue = diffusion.get("DiffusionBValue")
            found.append((bvalue, *_places(frame, place, axes, pitch)))
        return found
    axes, pitch, bvalue = image.ImageOrientationPatient, image.PixelSpacing, _bvalue(image)
    tokens = _tokens(image)
    if "VFRAME" in tokens:
        tiles = image[0x00651051].value
        across = int(np.ceil(np.sqrt(len(tiles))))
        rows, columns = pixels.shape[0] // -(-len(tiles) // across), pixels.shape[1] // across
        places = [tile.ImagePositionPatient for tile in tiles]
    elif "MOSAIC" in tokens:
        return _siemens(image, pixels, bvalue)
    else:
        return [(bvalue, *_places(pixels, image.ImagePositionPatient, axes, pitch))]
    found = []
    for tile, place in enumerate(places):
        row, column = tile // across * rows, tile % across * columns
        frame = pixels[row : row + rows, column : column + columns]
        found.append((bvalue, *_places(frame, place, axes, pitch)))
    return found


def _tokens(image: Dataset) -> set[str]:
    try:
        return set(image.get("ImageType") or [])
    except NotImplementedError:
        # The type of the element is damaged.
        return set()


_RESCALE = (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))


def _siemens(
    image: Dataset, pixels: np.ndarray, bvalue: float | None
) -> list[tuple[float | None, np.ndarray, np.ndarray]]:
    """Undo `save_mosaic`, which saves six tiles upwards."""
    axes = np.array(image.ImageOrientationPatient, float)
    pitch = np.array(image.PixelSpacing, float)
    rows, columns = (n // 3 for n in pixels.shape)
    corner = np.array(image.ImagePositionPatient, float)
    corner = corner + axes[:3] * pitch[1] * columns + axes[3:] * pitch[0] * rows
    step = float(image.SpacingBetweenSlices) * np.cross(axes[:3], axes[3:])
    found = []
    for tile in range(6):
        row, column = tile // 3 * rows, tile % 3 * columns
        frame = pixels[row : row + rows, column : column + columns]
        found.append((bvalue, *_places(frame, corner + tile * step, axes, pitch)))
    return found


def _places(
    frame: np.ndarray, position: object, orientation: object, pitch: object
) -> tuple[np.ndarray, np.ndarray]:
    place, axes, step = (np.array(v, float) for v in (position, orientation, pitch))
    row, column = np.indices(frame.shape).reshape(2, -1)
    lps = place[:, None] + np.outer(axes[:3], column * step[1]) + np.outer(axes[3:], row * step[0])
    return frame.ravel(), lps


def _bvalue(image: Dataset) -> float | None:
    for tag in ("DiffusionBValue", 0x0019100C, 0x00431039, 0x20011003, 0x00651009):
        if tag in image:
            value = image.get(tag) if isinstance(tag, str) else image[tag].value
            first = value[0] if isinstance(value, pydicom.multival.MultiValue) else value
            try:
                return float(first) % 100_000
            except (TypeError, ValueError):
                continue
    return None


def main() -> int:
    """Run a campaign and print a table; exit with 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutants", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="keep the folders of wrong outcomes here")
    given = parser.parse_args()
    counts, longest = Counter[str](), 0.0
    for seed in range(given.seed, given.seed + given.mutants):
        with tempfile.TemporaryDirectory() as scratch:
            outcome = run_mutant(seed, Path(scratch) / "in")
            counts[outcome.verdict] += 1
            longest = max(longest, outcome.seconds)
            if outcome.verdict in {"wrong", "exception"}:
                print(f"{seed} {outcome.verdict}: {outcome.detail}\n    {'; '.join(outcome.made)}")
                sys.stdout.flush()
                if given.keep:
                    shutil.copytree(Path(scratch) / "in", given.keep / str(seed), symlinks=True)
        if counts.total() % 20 == 0:
            progress = f"{counts.total()} of {given.mutants}: {dict(counts)}"
            print(progress, file=sys.stderr, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{given.mutants} mutants: {dict(counts)}; the slowest took {longest:.1f} s of CPU time, "
        f"peak {peak:.0f} MB"
    )
    return 1 if counts["wrong"] or counts["exception"] else 0


if __name__ == "__main__":
    sys.exit(main())
