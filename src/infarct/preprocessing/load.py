"""Reads the images of a scan, computes missing ones, and checks all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infarct.core import image_type
from infarct.core.bvalues import bvalue_name, read_bvalues
from infarct.core.diffusion import (
    USUAL_BVALUE,
    Image,
    Mask,
    adc_from_signal,
    b0_from_adc,
    find_shell,
    scanned_slices,
    trace,
)
from infarct.core.errors import ContentError, GeometryError, InputFileError
from infarct.core.findings import Finding, FindingCode
from infarct.core.geometry import SAME_VOXEL, reorder
from infarct.core.nifti import Volume, read
from infarct.core.resampling import reached, resample
from infarct.preprocessing import (
    checks,
    companion_alignment,
    consistency,
    corruption,
    image_checks,
    slice_checks,
)
from infarct.preprocessing.case import Case, CaseFiles
from infarct.preprocessing.skull_strip import BrainMethod, find_brain
from infarct.preprocessing.slice_checks import empty_between, slices_with_values

_TRACE = 1e-7
"""Share of the largest value below which a voxel is set to 0; a 16-bit step is 1.5e-5."""

_WHOLE = 0.98
"""A companion image that covers less than this share of the DWI does not cover the whole brain."""


_MOST_LABELS = 200
"""Largest number of values of a segmentation that is given as brain mask."""


def _lone_dwi(findings: list[Finding]) -> InputFileError:
    """Return the error for a DWI without b0 and ADC, and why no volume of a series was the b0."""
    low = [f"{each.message}. " for each in findings if each.code == FindingCode.SERIES_WITHOUT_B0]
    return InputFileError(
        f"{''.join(low)}DWI alone cannot distinguish an infarct from a bright vessel or an old "
        "scar; give its b0 (--b0), its ADC map (--adc), or a 4D series with a .bval file"
    )


def open_case(files: CaseFiles) -> Case:
    """Read a scan, compute missing images, and check all of them.

    Args:
        files: A DWI with a b0 or an ADC map, or a 4D series.

    Returns:
        The scan on the grid of the DWI.

    Raises:
        InputFileError: If a file is missing or unreadable, or both b0 and ADC are missing.
        GeometryError: If an image cannot be a head, or does not overlap the DWI.
        ContentError: If an image cannot be diffusion MRI of a brain.
    """
    findings: list[Finding] = []
    dwi, b0, bvalue, b0_bvalue = _read_signals(files, findings)
    weighting = bvalue - b0_bvalue
    findings += image_checks.check_bvalue(bvalue)
    as_read = {"DWI": dwi} if b0 is None else {"DWI": dwi, "b0": b0}
    dwi = _clean("DWI", dwi, findings)
    b0 = _clean("b0", b0, findings) if b0 is not None else None
    adc = None
    if files.adc is not None:
        adc, reach = _read_on(dwi, "ADC", files.adc, findings)
        dwi, b0 = _within(dwi, reach), b0 and _within(b0, reach)
    if b0 is None and adc is None:
        raise _lone_dwi(findings)
    b0_given = b0 is not None
    rough, found = _find_brain(dwi, b0)
    for name, volume in as_read.items():
        findings += slice_checks.check_slices(name, volume)
        findings += corruption.check_voxels(name, volume, rough)
    if adc is not None:
        corruption.refuse_negative("ADC", adc, rough)
    del as_read  # frees the images as read: they are large
    given = _given_brain(dwi, files.brain, findings)
    # Alignment first: a mirrored companion image correlates as poorly with the DWI as an image of
    # another type.
    misaligned = _check_alignment(dwi, b0, adc, rough if given is None else given)
    findings += [*misaligned, *_check_types(dwi, b0, adc, rough, misaligned)]
    if adc is not None:
        scale, unit_findings = consistency.adc_scale(adc, rough)
        findings += corruption.check_adc_voxels(dwi.like(adc), rough, scale)
        adc = np.nan_to_num(adc * np.float32(scale), nan=0.0, posinf=0.0, neginf=0.0)
        findings += unit_findings
    if b0 is None and adc is not None:
        b0 = dwi.like(b0_from_adc(dwi.data, adc, bvalue))
        text = f"no b0 was given; it was computed from DWI and ADC with b = {bvalue:.0f} s/mm^2"
        findings.append(Finding(FindingCode.B0_COMPUTED, "note", text))
        rough, found = _find_brain(dwi, b0)
    assert b0 is not None
    brain, method = (rough, found) if given is None else (given, "given")
    brain &= _measured(dwi, b0)
    checks.check_brain_is_found(brain, dwi.grid)
    computed = adc_from_signal(b0.data, dwi.data, weighting)
    if adc is None:
        adc = computed
    elif b0_given:
        findings += consistency.check_agreement(dwi.data, b0.data, adc, brain, weighting)
        # ADC maps contain 0 or a negative value where the fit failed, which would read as very low
        # ADC. Replaced everywhere, since the network may find a larger brain mask later.
        adc = np.where((adc <= 0) & (computed > 0), computed, adc)
    else:
        findings += consistency.check_holes(adc, brain)
    case = Case(dwi, b0, dwi.like(adc), bvalue, brain, method, files)
    if files.adc is not None and not b0_given:
        consistency.check_weighting(dwi.data, adc, brain)
    findings += consistency.check_contrast(
        dwi.data, b0.data, adc, brain, adc_given=files.adc is not None
    )
    return replace(case, findings=tuple(image_checks.join_form_findings(findings)))


def _read_signals(
    files: CaseFiles, findings: list[Finding]
) -> tuple[Volume, Volume | None, float, float]:
    """Read DWI, b0 (if available) and their b-values, from single images or a 4D series."""
    if not files.b0_below > 0:
        raise ContentError(f"--b0-below {files.b0_below:g}: expected a b-value above 0 s/mm^2")
    dwi, b0_bvalue = read(files.dwi), 0.0
    if dwi.data.ndim == 4:
        dwi, b0, bvalue, b0_bvalue = _split_series(files, dwi, findings)
        if files.bvalue is not None and abs(files.bvalue - bvalue) > 0.1 * bvalue:
            text = (
                f"--bvalue {files.bvalue:g} was ignored; the .bval file of the series says "
                f"{bvalue:g}"
            )
            findings.append(Finding(FindingCode.BVALUE_OVERRIDDEN, "warning", text))
    else:
        b0, bvalue = None, _bvalue_of_image(files, findings)
    findings += image_checks.check_grid("DWI", dwi)
    image_checks.check_signal("DWI", dwi.data)  # before other images are compared with it
    if files.b0 is not None:
        data, reach = _read_on(dwi, "b0", files.b0, findings)
        dwi, b0, b0_bvalue = _within(dwi, reach), dwi.like(data), files.b0_bvalue
    return dwi, b0, bvalue, b0_bvalue


def _bvalue_of_image(files: CaseFiles, findings: list[Finding]) -> float:
    """Return the b-value of a single image: as given, else from its .bval file."""
    beside = files.bval_path()
    stated = read_bvalues(beside) if beside is not None else np.empty(0)
    shells = {round(b) for b in stated if b >= files.b0_below}
    if files.bvalue is None and stated.size and not shells:
        return float(stated.max())
    said = float(shells.pop()) if len(shells) == 1 else None
    if files.bvalue is not None:
        if beside and said and abs(files.bvalue - said) > 0.1 * said:
            text = f"--bvalue {files.bvalue:g} was used, but {beside.name} says {said:g}"
            findings.append(Finding(FindingCode.BVALUE_MISMATCH, "warning", text))
        return files.bvalue
    if beside and said:
        text = f"the b-value {said:g} s/mm^2 was read from {beside.name}"
        findings.append(Finding(FindingCode.BVALUE_FROM_FILE, "note", text))
        return said
    text = f"no b-value was given; b = {USUAL_BVALUE:.0f} s/mm^2 was assumed"
    findings.append(Finding(FindingCode.BVALUE_ASSUMED, "note", text))
    return USUAL_BVALUE


def _split_series(
    files: CaseFiles, series: Volume, findings: list[Finding]
) -> tuple[Volume, Volume | None, float, float]:
    """Compute b0 (mean of the low b-values) and DWI (geometric mean of one shell) from a series."""
    path, beside, below = Path(files.dwi), files.bval_path(), files.b0_below
    n = series.data.shape[3]
    if beside is None:
        raise InputFileError(
            f"{path}: is a series of {n} volumes, but {bvalue_name(path)} was not found in the "
            "same folder; put the .bval file there or give single images with --dwi and --b0"
        )
    bvalues = read_bvalues(beside)
    if bvalues.size != n:
        raise InputFileError(
            f"{beside}: holds {bvalues.size} b-values, but {path.name} has {n} volumes; give the "
            ".bval file of this series"
        )
    image_checks.check_bvalue(float(bvalues.max()))
    wanted = USUAL_BVALUE if files.bvalue is None else files.bvalue
    shell = list(find_shell(bvalues.tolist(), wanted, below))
    low = np.flatnonzero(bvalues < below).tolist()
    shell, low = (_alive(series, volumes, findings) for volumes in (shell, low))
    if not shell:
        raise ContentError(
            f"{path}: all volumes with b = {wanted:.0f} s/mm^2 are empty; export the series again"
        )
    bvalue = float(bvalues[shell].mean())
    weighted = bvalues[bvalues >= below]
    left = sorted({round(b) for b in weighted} - {round(b) for b in bvalues[shell]})
    text = (
        f"series of {n} volumes: the DWI is the geometric mean of {len(shell)} volumes with "
        f"b = {bvalue:.0f} s/mm^2, the b0 is the mean of {len(low)} volumes below b = {below:.0f}"
        + (f"; not used: b = {', '.join(map(str, left))}" if left else "")
    )
    findings.append(Finding(FindingCode.SERIES_SPLIT, "note", text))
    if not low:
        lowest = float(bvalues.min())
        text = (
            f"no volume of the series can be used as b0: the lowest b-value is {lowest:g} s/mm^2, "
            f"but a b0 must be below {below:g}"
        )
        if lowest < bvalue / 2:
            text += f"; to use it as b0, add --b0-below {np.floor(lowest) + 1:.0f}"
        findings.append(Finding(FindingCode.SERIES_WITHOUT_B0, "note", text))
    first = replace(series, data=series.data[..., 0])
    b0 = first.like(series.data[..., low].mean(axis=-1)) if low else None
    # Before averaging: invalid values of a single volume would be hidden by the mean.
    findings += image_checks.check_signal("DWI", series.data[..., shell])
    b0_bvalue = float(bvalues[low].mean()) if low else 0.0
    return first.like(trace(series.data[..., shell])), b0, bvalue, b0_bvalue


def _alive(series: Volume, volumes: list[int], findings: list[Finding]) -> list[int]:
    """Return the volumes that are not empty, and report the others."""
    alive = [
        each
        for each in volumes
        if np.isfinite(series.data[..., each]).any() and np.ptp(series.data[..., each]) != 0
    ]
    if dead := sorted(set(volumes) - set(alive)):
        text = (
            f"series: {len(dead)} volumes are empty (volume "
            f"{', '.join(str(each + 1) for each in dead)}) and were ignored"
        )
        findings.append(Finding(FindingCode.EMPTY_VOLUMES, "warning", text))
    return alive


def _measured(dwi: Volume, b0: Volume) -> Mask:
    """Return the voxels that both images cover; a companion image may end before the DWI."""
    slices = [scanned_slices(image.data, dwi.slice_axis) for image in (dwi, b0)]
    measured: Mask = slices[0] & slices[1] & ((dwi.data > 0) | (b0.data > 0))
    return measured


def _within(volume: Volume, reach: Mask) -> Volume:
    """Set voxels to 0 that a companion image does not cover, as if they were not scanned."""
    return volume.like(np.where(reach, volume.data, 0))


def _read_on(
    dwi: Volume, name: str, path: Path, findings: list[Finding], *, labels: bool = False
) -> tuple[NDArray[Any], Mask]:
    """Read a companion image on the grid of the DWI, and return the voxels that it covers."""
    volume = read(path)
    if volume.data.ndim == 4:
        raise GeometryError(
            f"{name}: {path} holds {volume.data.shape[3]} volumes; give a single 3D image"
        )
    findings += image_checks.check_grid(name, volume)
    # Voxels that coincide are copied: interpolation over a rounding error would only blur.
    reordered = reorder(volume.data, volume.grid, dwi.grid)
    if reordered is not None:
        if not volume.grid.matches(dwi.grid, SAME_VOXEL * float(dwi.grid.spacing.min())):
            text = f"{name}: stores its axes in another order or direction and was reordered"
            findings.append(Finding(FindingCode.RESAMPLED, "note", text))
        return reordered, np.ones(dwi.grid.shape, dtype=bool)
    moved = resample(volume, dwi.grid, labels=labels)
    reach = reached(volume, dwi.grid)
    seen = dwi.data > np.percentile(dwi.data[np.isfinite(dwi.data)], 75)
    share = float(reach[seen].mean()) if seen.any() else 0.0
    if share < 0.6:
        raise GeometryError(
            f"{name}: {path} covers only {share:.0%} of the DWI: their headers place them in "
            "different positions; check that both images come from the same scan"
        )
    text = f"{name}: has a different grid from the DWI and was resampled to the DWI"
    findings.append(Finding(FindingCode.RESAMPLED, "note", text))
    if share < _WHOLE and not labels:
        text = (
            f"{name}: covers only {share:.0%} of the DWI; the rest was excluded, and the volume is "
            "a lower bound"
        )
        findings.append(Finding(FindingCode.PARTIAL_COVERAGE, "warning", text))
    return moved, reach


def _clean(name: str, volume: Volume, findings: list[Finding]) -> Volume:
    findings += image_checks.check_signal(name, volume.data)
    data = np.nan_to_num(volume.data, nan=0.0, posinf=0.0, neginf=0.0)
    np.maximum(data, 0.0, out=data)
    # Resampling leaves values of about 1e-40 in the background, whose ADC would be meaningless.
    data[data < _TRACE * data.max()] = 0.0
    return volume.like(data)


def _find_brain(dwi: Volume, b0: Volume | None) -> tuple[Mask, BrainMethod]:
    """Find the brain by thresholds, from the DWI alone if there is no b0.

    Empty slices are left out: they would cut the brain in two.
    """
    axis, other = dwi.slice_axis, b0 or dwi
    shown = np.logical_and(*(slices_with_values(image.data, axis) for image in (dwi, other)))
    kept = np.flatnonzero(~empty_between(shown))
    whole, method = find_brain(
        dwi.data.take(kept, axis), other.data.take(kept, axis), dwi.grid.spacing
    )
    brain = np.zeros(dwi.data.shape, dtype=bool)
    np.moveaxis(brain, axis, 0)[kept] = np.moveaxis(whole, axis, 0)
    if not brain.any():
        raise ContentError(
            "no brain was found on the DWI: nothing is brighter than the background; "
            "check the image, or provide a brain mask with --brain"
        )
    return brain, method


def _check_alignment(
    dwi: Volume, b0: Volume | None, adc: Image | None, brain: Mask
) -> list[Finding]:
    """Check the alignment of the given companion images with the DWI."""
    shown = brain & _measured(dwi, b0 or dwi)
    findings = []
    for name, image in (("b0", b0.data if b0 else None), ("ADC", adc)):
        if image is not None:
            finite = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
            findings += companion_alignment.check_alignment(name, finite, dwi, shown)
    return findings


def _check_types(
    dwi: Volume, b0: Volume | None, adc: Image | None, brain: Mask, misaligned: list[Finding]
) -> list[Finding]:
    """Check the types of the images; name a misalignment, which spoils their contrast."""
    try:
        return image_type.check_types(dwi.data, b0.data if b0 else None, adc, brain)
    except ContentError as error:
        if misaligned:
            raise ContentError(f"{misaligned[0].message}. Otherwise, {error}") from error
        raise


def _given_brain(dwi: Volume, path: Path | None, findings: list[Finding]) -> Mask | None:
    if path is None:
        return None
    data, _ = _read_on(dwi, "brain", path, findings, labels=True)
    if data.max() > 1 and np.unique(data).size > _MOST_LABELS:
        raise ContentError(
            f"{path}: holds {np.unique(data).size} different values and is an image, not a mask; "
            "give a mask with 1 inside the brain and 0 outside as --brain"
        )
    brain: Mask = data > 0.5
    if not brain.any():
        raise ContentError(
            f"{path}: the brain mask is empty on the grid of the DWI; give the mask of this scan"
        )
    return brain
