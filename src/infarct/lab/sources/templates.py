"""Build the templates shipped with the package: the b0 template and the healthy statistics.

The anatomy comes from the ICBM 152 maps bundled with nilearn. The statistics come from lesion-free
scans, with the tissue maps as a weak prior where few scans contribute.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core import assets
from infarct.core.diffusion import Image, Mask
from infarct.core.errors import InputFileError
from infarct.core.file_search import entries_of
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, read, write
from infarct.core.resampling import resample
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import preprocess
from infarct.preprocessing.templates import TEMPLATE_GRID, Template, load_template
from infarct.segmentation.classical import (
    SIGMA_PER_FWHM,
    FuzzySettings,
    TScoreSettings,
    smooth_in_plane,
)
from infarct.segmentation.controls import healthy_asset

_NEIGHBOURHOOD_FWHM = 6.0
"""mm; typical distance between the same structure in two brains after in-plane registration."""

_PRIOR_WEIGHT = 2.0
"""Weight of the tissue-map prior, in scans."""

STATISTICS = ("dwi_mean", "dwi_sd", "adc_mean", "adc_sd")
"""Healthy statistics, by file name."""

SHIPPED_FWHM = (FuzzySettings().fwhm, TScoreSettings().fwhm)
"""FWHM of the smoothing in the two classical methods, voxels. Controls are smoothed equally."""

MNI_NOTICE = (
    "ICBM 152 nonlinear symmetric 2009a, (C) 1993-2004 Louis Collins, McConnell Brain Imaging "
    "Centre, Montreal Neurological Institute, McGill University; redistribution with this notice"
)


@dataclass(frozen=True, eq=False)
class Tissue:
    """Tissue probabilities of the average brain, each (192, 224, 192) in 0 - 1 on the MNI grid.

    Attributes:
        fluid: Cerebrospinal fluid within the brain mask.
        grey: Grey matter.
        white: White matter.
        brain: bool, all three tissues with holes filled.
    """

    fluid: Image
    grey: Image
    white: Image
    brain: Mask


@dataclass(frozen=True, eq=False)
class LesionFree:
    """One lesion-free scan on the MNI grid; all arrays are (192, 224, 192).

    Attributes:
        name: Name of the scan.
        dwi: Normalised to its tissue peak.
        adc: Normalised to its tissue peak.
        brain: bool.
    """

    name: str
    dwi: Image
    adc: Image
    brain: Mask


def icbm_tissue() -> Tissue:
    """Read the ICBM 152 2009a tissue maps bundled with nilearn; needs no download.

    References:
        Fonov et al. 2011, NeuroImage 54, 313-327.
    """
    from nilearn import datasets  # noqa: PLC0415 - only needed here

    folder = Path(datasets.__file__).parent / "data"

    def at_mni(kind: str) -> Image:
        file = folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
        return (resample(read(file), MNI_GRID) / 255).astype(np.float32)

    head, grey, white = at_mni("t1"), at_mni("gm"), at_mni("wm")
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(head > 0, iterations=2))
    fluid = np.clip(1 - grey - white, 0, 1) * brain
    return Tissue(fluid.astype(np.float32), grey, white, brain)


def build_template(tissue: Tissue) -> Template:
    """Create a b0 template with T2 contrast: white matter 1, grey matter 1.35, fluid 2.5."""
    b0 = (tissue.white + 1.35 * tissue.grey + 2.5 * tissue.fluid) * tissue.brain
    brain = _downsample(tissue.brain.astype(np.float32)) >= 0.5
    return Template(Volume(_downsample(b0), TEMPLATE_GRID.affine), brain)


def lesion_free_files(home: Path) -> CaseFiles:
    """Return the files of a lesion-free scan: `NAME_{dwi,b0,adc}.nii.gz` and `NAME.json`.

    Args:
        home: Folder of the scan; its name is NAME.

    Raises:
        InputFileError: If the JSON file does not contain `bvalue_s_per_mm2`.
    """
    name = home.name
    try:
        sidecar = json.loads((home / f"{name}.json").read_text(encoding="utf-8"))
        bvalue = float(sidecar["bvalue_s_per_mm2"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputFileError(
            f"{home}: {name}.json must contain the number bvalue_s_per_mm2 ({error!r})"
        ) from error
    dwi, b0, adc = (home / f"{name}_{kind}.nii.gz" for kind in ("dwi", "b0", "adc"))
    return CaseFiles(dwi, b0, adc, bvalue=bvalue)


def find_normals(folder: Path) -> list[CaseFiles]:
    """Find lesion-free scans, one folder per scan.

    Raises:
        InputFileError: If there are no scan folders, or a JSON file lacks the b-value.
    """
    homes = [path for path in entries_of(folder) if path.is_dir()]
    if not homes:
        raise InputFileError(
            f"{folder}: no scan folders found; expected NAME/NAME_{{dwi,b0,adc}}.nii.gz"
        )
    return [lesion_free_files(home) for home in homes]


def real_normals(normals: Iterable[CaseFiles], template: Template) -> Iterator[LesionFree]:
    """Preprocess lesion-free scans.

    Args:
        normals: Files of the scans.
        template: Registration target.

    Yields:
        The scans on the MNI grid, normalised.
    """
    for files in normals:
        ready = preprocess(open_case(files), template)
        yield LesionFree(
            files.dwi.parent.name, ready.dwi_normalised, ready.adc_normalised, ready.brain
        )


def healthy_statistics(
    scans: Iterable[LesionFree], tissue: Tissue, widths: Sequence[float]
) -> dict[float, dict[str, Image]]:
    """Estimate the voxelwise mean and SD of DWI and ADC in the healthy brain.

    Smoothing lowers the SD between brains, so the statistics apply only to equally smoothed scans.

    Each scan and its mirror image have half weight. Neighbouring voxels contribute with a Gaussian
    weight, because registration is imperfect. Where few scans contribute, a regression on the
    tissue maps serves as a prior with the weight of two scans.

    Args:
        scans: Lesion-free scans.
        tissue: Tissue maps of the average brain.
        widths: FWHM values of the in-plane smoothing, voxels of 1 mm.

    Returns:
        For each FWHM, `dwi_mean`, `dwi_sd`, `adc_mean` and `adc_sd`, each (96, 112, 96) on the
        template grid.
    """
    sums = {(fwhm, name): _WeightedSums() for fwhm in widths for name in ("dwi", "adc")}
    for scan in scans:
        weight = scan.brain.astype(np.float32)
        for fwhm in widths:
            for name, image in (("dwi", scan.dwi), ("adc", scan.adc)):
                smooth = smooth_in_plane(image, scan.brain, fwhm)
                for view in (lambda x: x, mirrored):
                    sums[fwhm, name].add(_downsample(view(smooth)), _downsample(view(weight)) > 0.5)
    design = np.stack([_downsample(t) for t in (tissue.fluid, tissue.grey, tissue.white)])
    brain = _downsample(tissue.brain.astype(np.float32)) > 0
    statistics: dict[float, dict[str, Image]] = {fwhm: {} for fwhm in widths}
    for (fwhm, name), total in sums.items():
        mean, sd = total.posterior(design, brain)
        statistics[fwhm] |= {f"{name}_mean": mean, f"{name}_sd": sd}
    return statistics


class _WeightedSums:
    """Weighted sums of values, squares and weights over scans, mirror images and neighbours."""

    def __init__(self) -> None:
        self.weight, self.value, self.square = np.zeros((3, *TEMPLATE_GRID.shape), np.float64)

    def add(self, image: Image, brain: Mask) -> None:
        """Add the scan or its mirror image, with half the weight of a scan."""
        sigma = _NEIGHBOURHOOD_FWHM * SIGMA_PER_FWHM / TEMPLATE_GRID.spacing[0]
        inside = np.where(brain, image, 0.0)
        parts = (brain.astype(np.float32), inside, inside**2)
        totals = (self.weight, self.value, self.square)
        for total, part in zip(totals, parts, strict=True):
            np.add(total, ndimage.gaussian_filter(part, (sigma, sigma, sigma / 2)) / 2, out=total)

    def posterior(self, design: NDArray[np.floating], brain: Mask) -> tuple[Image, Image]:
        """Return mean and SD, combined with the tissue-map prior."""
        seen = self.weight > 0.2
        average = self.value[seen] / self.weight[seen]
        spread = self.square[seen] / self.weight[seen] - average**2
        predictors = design[:, seen].T
        prior = np.tensordot(np.linalg.lstsq(predictors, average)[0], design, axes=1)
        spread = spread + (average - prior[seen]) ** 2
        variance = np.tensordot(np.linalg.lstsq(predictors, spread)[0], design, axes=1)
        variance = np.maximum(variance, np.percentile(spread, 5))
        weight = self.weight + _PRIOR_WEIGHT
        mean = (self.value + _PRIOR_WEIGHT * prior) / weight
        square = (self.square + _PRIOR_WEIGHT * (variance + prior**2)) / weight
        sd = np.sqrt(np.maximum(square - mean**2, 0.0))
        # Scans may extend beyond the average brain, so keep plausible values there.
        reached = brain | (self.weight > 0.2)
        mean, sd = np.where(reached, mean, 0.0), np.where(reached, sd, np.median(sd[reached]))
        return mean.astype(np.float32), np.maximum(sd, 0.05).astype(np.float32)


def mirrored(image: Image) -> Image:
    """Mirror an image on the MNI grid at the midline (x = 0, the centre of voxel 96)."""
    return np.roll(image[::-1], 1, axis=0)


def write_template(template: Template, source: str) -> None:
    """Write the b0 template and its brain mask to the package assets."""
    _write_asset("b0", template.b0.data, source)
    _write_asset("brain", template.brain.astype(np.float32), source)


def write_healthy(statistics: dict[float, dict[str, Image]], names: list[str], source: str) -> None:
    """Write the healthy statistics to the package assets, with a note on their origin per FWHM.

    Args:
        statistics: Result of `healthy_statistics`.
        names: Names of the scans.
        source: Origin of the scans, for the asset index.
    """
    stems = [healthy_asset(name, fwhm) for fwhm, named in statistics.items() for name in named]
    notes = [healthy_asset("note", fwhm) for fwhm in statistics]
    note = {"n": len(names), "scans": names, "source": source, "notice": MNI_NOTICE}
    home = assets.ROOT / "templates"
    # Replace all files or none: a mean and SD from different runs would go unnoticed.
    with tempfile.TemporaryDirectory(dir=home) as drafts:
        for fwhm, named in statistics.items():
            for name, image in named.items():
                _write_quantised(image, Path(drafts) / f"{healthy_asset(name, fwhm)}.nii.gz")
        for stem in notes:
            (Path(drafts) / f"{stem}.json").write_text(json.dumps(note, indent=1) + "\n")
        for draft in sorted(Path(drafts).iterdir()):
            draft.replace(home / draft.name)
    files = [*(f"{stem}.nii.gz" for stem in stems), *(f"{stem}.json" for stem in notes)]
    _record([home / file for file in files], source)


def build(
    normals: Path | None,
    synthetic: Iterable[LesionFree] = (),
    count: int = 0,
    widths: Sequence[float] = SHIPPED_FWHM,
) -> list[str]:
    """Build and write the b0 template and the healthy statistics.

    Args:
        normals: Folder of real lesion-free scans, or None.
        synthetic: Lesion-free synthetic scans on the MNI grid.
        count: Number of synthetic scans.
        widths: FWHM values of the healthy statistics to build, voxels; others are left unchanged.

    Returns:
        The names of the scans used for the healthy statistics.

    Raises:
        InputFileError: If there are no scans, or a folder is not a scan folder. Nothing is written
            in this case.
    """
    real = find_normals(normals) if normals else []
    if not real and count < 1:
        raise InputFileError(
            "no lesion-free scans given; pass a folder of real scans (--normals) or a number of "
            "synthetic scans (--synthetic)"
        )
    tissue = icbm_tissue()
    write_template(build_template(tissue), f"T2 contrast painted on {MNI_NOTICE}")
    load_template.cache_clear()
    names: list[str] = []

    def all_scans() -> Iterator[LesionFree]:
        for scan in real_normals(real, load_template()):
            names.append(scan.name)
            yield scan
        for scan in synthetic:
            names.append(scan.name)
            yield scan

    statistics = healthy_statistics(all_scans(), tissue, widths)
    source = f"{len(names)} lesion-free scans (named in note.json); prior from {MNI_NOTICE}"
    write_healthy(statistics, names, source)
    return names


def _downsample(image: Image) -> Image:
    """Downsample by averaging blocks of 2 x 2 x 2 voxels."""
    x, y, z = (n // 2 for n in image.shape)
    blocks: Image = image.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5), dtype=np.float32)
    return blocks


def _write_asset(name: str, data: NDArray[np.generic], source: str) -> None:
    file = assets.ROOT / "templates" / f"{name}.nii.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_quantised(data, file)
    _record([file], source)


def _write_quantised(data: NDArray[np.generic], file: Path) -> None:
    """Write with a quantisation step of 0.001: small files, and the same hash on every machine."""
    write(Volume(data, TEMPLATE_GRID.affine), file, np.int16, step=1e-3)


def _record(files: Iterable[Path], source: str) -> None:
    rows = []
    for file in files:
        name, relative = file.name.split(".")[0], file.relative_to(assets.ROOT).as_posix()
        digest = assets.sha256(file)
        rows.append(assets.Asset(f"templates/{name}", relative, digest, "Apache-2.0", source))
    assets.register_asset(*rows)
