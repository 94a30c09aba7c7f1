"""Select the DWI, b0 and ADC images of a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from infarct.core.diffusion import USUAL_BVALUE
from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode
from infarct.core.nifti import Volume, form_disagreement_mm, read, write
from infarct.dicom.convert import Image
from infarct.dicom.headers import ADC_BY_NAME, TRACE
from infarct.dicom.series import Series
from infarct.preprocessing.case import CaseFiles

_SAME_FORMS_MM = 0.1
"""Distance between sform and qform up to which they agree, mm."""


@dataclass(frozen=True)
class Choice:
    """The images of one case.

    Attributes:
        dwi: Source of the DWI: the shell nearest b = 1000 s/mm^2.
        b0: Source of the b0; `dwi` itself if it contains one; None if there is none.
        adc: ADC map of the scanner, if it belongs to the DWI.
        aside: Fitting ADC map that is not used because it belongs, or may belong, to another
            acquisition.
        owners: Numbers of the series to which `adc` or `aside` may belong; empty if it certainly
            belongs to the DWI.
    """

    dwi: Image
    b0: Image | None
    adc: Image | None
    aside: Image | None = None
    owners: tuple[int, ...] = ()

    @property
    def why(self) -> str:
        """Short reason for the choice."""
        dwi = self.dwi
        plane = "axial" if dwi.is_axial else "not axial"
        many = len(dwi.shell)
        shell = f"b {dwi.bvalue:.0f}" + (f" in {many} directions" if many > 1 else "")
        return f"{plane}, {shell}, {dwi.height_mm:.0f} mm of slices"


def rank(images: Iterable[Image]) -> list[Choice]:
    """List all possible cases, best first.

    Args:
        images: All converted images of one patient.

    Returns:
        Cases sorted by most recent study date, axial orientation, b-value nearest 1000 s/mm^2,
        coverage of the head, b0 in the same series, latest study time, lowest series number.

    Raises:
        ContentError: If there is no DWI with a b0 or an ADC map.
    """
    images = list(images)
    weighted = [image for image in images if image.shell]
    choices = [_choice(image, images) for image in weighted]
    complete = [choice for choice in choices if choice.b0 or choice.adc]
    if not complete:
        raise ContentError(_what_is_missing(images))
    return sorted(complete, key=_order)


def _order(choice: Choice) -> tuple[float, ...]:
    dwi = choice.dwi
    day, time = dwi.series.studied
    return (
        # An earlier scan shows a different state of the brain, whatever its quality.
        -day,
        not dwi.is_axial,
        round(abs(dwi.bvalue - USUAL_BVALUE) / 100.0),
        -round(dwi.height_mm / 20.0),
        choice.b0 is not dwi,
        -time,
        dwi.series.number,
    )


def explain(choice: Choice, others: int, studies: int) -> tuple[Finding, ...]:
    """Describe the choice for the report, without descriptions: they may contain patient names.

    Args:
        choice: The selected case.
        others: Number of other possible cases.
        studies: Number of studies in the folder.
    """
    dwi, b0, adc = choice.dwi, choice.b0, choice.adc
    parts = [f"series {dwi.series.number} ({dwi.series.maker}) used as DWI: {choice.why}"]
    if b0 is dwi:
        parts.append("b0 from the same series")
    elif b0 is not None:
        parts.append(f"b0 from series {b0.series.number}")
    if adc is not None:
        parts.append(f"ADC from series {adc.series.number}")
    if choice.aside is not None:
        parts.append(f"ADC computed because {_origin(choice.aside, choice.owners)}")
    found = [Finding(FindingCode.DICOM_SERIES, "note", "DICOM: " + ", ".join(parts))]
    if adc is not None and choice.owners:
        text = (
            f"DICOM: {_origin(adc, choice.owners)}; it was used for series {dwi.series.number} "
            "because that series has no b0. The head may have moved between the two: compare them"
        )
        found.append(Finding(FindingCode.DICOM_ADC, "warning", text))
    weighted = {i: round(b) for i, b in enumerate(dwi.bvalues) if b >= dwi.b0_below}
    for image in {id(each): each for each in (dwi, b0, adc) if each is not None}.values():
        found += image.findings
    left = sorted({b for i, b in weighted.items() if i not in dwi.shell})
    if left:
        text = (
            f"DICOM: b = {dwi.bvalue:.0f} s/mm^2 was used, the b-value nearest 1000; "
            f"ignored: {', '.join(map(str, left))}"
        )
        found.append(Finding(FindingCode.DICOM_BVALUES, "note", text))
    if others:
        text = (
            f"DICOM: {others} other series could be used instead; "
            "the terminal lists them, select one with --series"
        )
        found.append(Finding(FindingCode.DICOM_CANDIDATES, "note", text))
    if studies > 1:
        text = (
            f"DICOM: the folder contains {studies} studies; "
            f"check that series {dwi.series.number} belongs to the intended one "
            "(the terminal lists dates and UIDs; select a series with --series UID)"
        )
        found.append(Finding(FindingCode.DICOM_STUDIES, "warning", text))
    return tuple(found)


def write_case(choice: Choice, into: Path) -> CaseFiles:
    """Write the images of a case as NIfTI under neutral names.

    Directions are kept as separate volumes: `open_case` averages them to the trace-weighted image.

    Args:
        choice: The selected case.
        into: Temporary folder.
    """
    series = _read_converted(choice.dwi.path)
    dwi_path, b0_path, adc_path = (into / f"{name}.nii" for name in ("dwi", "b0", "adc"))
    below = choice.dwi.b0_below
    own = [i for i, b in enumerate(choice.dwi.bvalues) if b < below]
    kept = [*own, *choice.dwi.shell]
    bvalue = choice.dwi.bvalue
    if len(kept) > 1:
        write(replace(series, data=series.data[..., kept]), dwi_path)
        bvalues = [choice.dwi.bvalues[i] for i in own] + [bvalue] * len(choice.dwi.shell)
        dwi_path.with_suffix(".bval").write_text(" ".join(f"{b:g}" for b in bvalues) + "\n")
    else:
        single = series.data if series.data.ndim == 3 else series.data[..., kept[0]]
        write(replace(series, data=single), dwi_path)
    b0_bvalue = 0.0
    if choice.b0 is not None and choice.b0 is not choice.dwi:
        signal = _read_converted(choice.b0.path)
        low = [i for i, b in enumerate(choice.b0.bvalues) if b < below]
        b0_bvalue = sum(choice.b0.bvalues[i] for i in low) / len(low)
        mean = signal.data if signal.data.ndim == 3 else signal.data[..., low].mean(axis=-1)
        write(replace(signal, data=mean), b0_path)
    if choice.adc is not None:
        write(_read_converted(choice.adc.path), adc_path)
    return CaseFiles(
        dwi=dwi_path,
        b0=b0_path if b0_path.is_file() else None,
        adc=adc_path if adc_path.is_file() else None,
        bvalue=bvalue,
        b0_below=below,
        b0_bvalue=b0_bvalue,
    )


def _read_converted(path: Path) -> Volume:
    """Read an image of the converter; its qform is dropped where it contradicts the exact sform."""
    volume = read(path)
    if volume.header is None or form_disagreement_mm(volume) < _SAME_FORMS_MM:
        return volume
    header = volume.header.copy()
    header["qform_code"] = 0
    return replace(volume, header=header)


def _origin(image: Image, owners: tuple[int, ...]) -> str:
    """Describe the acquisition to which an ADC map belongs or may belong."""
    series = " or ".join(map(str, owners))
    belongs = "may belong" if len(owners) > 1 else "belongs"
    return f"the ADC map in series {image.series.number} {belongs} to series {series}"


def _choice(dwi: Image, images: list[Image]) -> Choice:
    b0 = _b0_for(dwi, images)
    weighted = [image for image in images if image.shell]
    maps = [(adc, _owners(adc, weighted)) for adc in _maps_for(dwi, images, b0)]
    own = {_root(dwi, weighted).series.uid}
    mine = [adc for adc, owners in maps if {owner.series.uid for owner in owners} == own]
    if mine or not maps:
        return Choice(dwi, b0, mine[0] if mine else None)
    nearest, owners = maps[0]
    numbers = tuple(sorted(owner.series.number for owner in owners))
    # The head may have moved in between: prefer a computed ADC, but this map over none.
    if b0 is not None and (b0 is dwi or len(owners) == 1):
        return Choice(dwi, b0, None, aside=nearest, owners=numbers)
    return Choice(dwi, b0, nearest, owners=numbers)


def _b0_for(dwi: Image, images: list[Image]) -> Image | None:
    if dwi.has_b0:
        return dwi
    return _nearest(dwi, [image for image in images if image.has_b0])


def _maps_for(dwi: Image, images: list[Image], b0: Image | None) -> list[Image]:
    """Return the ADC maps with the study and coordinates of a DWI, best first."""
    maps = [image for image in images if image.content == "adc" and _here(image) == _here(dwi)]
    on_grid = [image for image in maps if image.grid.matches(dwi.grid, tolerance_mm=0.1)]
    # A map on another grid may belong to another acquisition: use it only as a last resort.
    fitting = maps if b0 is None else on_grid

    def order(image: Image) -> tuple[bool, bool, int, bool]:
        # Prefer a map identified by its image type over one identified by free text.
        off, apart, before = _distance(dwi, image)
        return off, image.series.reason == ADC_BY_NAME, apart, before

    return sorted(fitting, key=order)


def _owners(adc: Image, weighted: list[Image]) -> list[Image]:
    """Return the acquisition an ADC map was derived from; several if it is ambiguous."""
    here = [image for image in weighted if _here(image) == _here(adc)]
    on_grid = [image for image in here if image.grid.matches(adc.grid, tolerance_mm=0.1)]
    roots = [_root(image, weighted) for image in _made_from(adc, on_grid or here)]
    return list({root.series.uid: root for root in roots}.values())


def _root(image: Image, weighted: list[Image]) -> Image:
    """Return the acquisition a trace image was averaged from, if available, else the image."""
    if image.series.reason != TRACE:
        return image
    acquired = [
        other
        for other in weighted
        if other.series.reason != TRACE
        and other.series.number < image.series.number
        and _here(other) == _here(image)
        and other.grid.matches(image.grid, tolerance_mm=0.1)
    ]
    made_from = _made_from(image, acquired)
    return made_from[0] if len(made_from) == 1 else image


def _made_from(derived: Image, candidates: list[Image]) -> list[Image]:
    """Return the candidates from which an image may have been derived."""
    series = derived.series
    # UIDs that the candidates also reference are planning images, not sources.
    sources = series.cited.difference(*(candidate.series.cited for candidate in candidates))
    # Header references take precedence over numbers. GE numbers a map of series 3 as 350.
    hints: tuple[Callable[[Image], bool], ...] = (
        lambda candidate: candidate.series.uid == series.uid,
        lambda candidate: any(header.uid in sources for header in candidate.series.headers),
        lambda candidate: _starts_within(series.acquired, candidate.series.acquired),
        lambda candidate: candidate.series.number == series.number // 100,
    )
    for hint in hints:
        candidates = [candidate for candidate in candidates if hint(candidate)] or candidates
    before = [
        candidate.series.number
        for candidate in candidates
        if candidate.series.number <= series.number
    ]
    return [c for c in candidates if not before or c.series.number == max(before)]


def _starts_within(part: tuple[float, float] | None, period: tuple[float, float] | None) -> bool:
    return part is not None and period is not None and period[0] <= part[0] <= period[1]


def _here(image: Image) -> tuple[str, str]:
    """Return study and frame of reference, which combined images must share."""
    return image.series.study_uid, image.series.frame_of_reference


def _nearest(dwi: Image, images: list[Image]) -> Image | None:
    """Return the best image with the same study and coordinates: same grid, nearest number."""
    fitting = [image for image in images if _here(image) == _here(dwi)]
    return min(fitting, key=lambda image: _distance(dwi, image), default=None)


def _distance(dwi: Image, image: Image) -> tuple[bool, int, bool]:
    apart = image.series.number - dwi.series.number
    # Derived series have higher numbers than their source.
    return not image.grid.matches(dwi.grid, tolerance_mm=0.1), abs(apart), apart < 0


def differing_uid(one: Series, other: Series) -> tuple[str, str, str] | None:
    """Return name and values of the UID that differs between two series; None if compatible."""
    for name, first, second in (
        ("StudyInstanceUID", one.study_uid, other.study_uid),
        ("FrameOfReferenceUID", one.frame_of_reference, other.frame_of_reference),
    ):
        if first != second:
            return name, first or "none", second or "none"
    return None


def _what_is_missing(images: list[Image]) -> str:
    numbers = ", ".join(str(image.series.number) for image in images)
    weighted = [image for image in images if image.shell]
    if weighted:
        dwi = weighted[0].series
        text = (
            f"series {dwi.number} is a DWI, but the folder contains neither a b0 nor an ADC map of "
            "the same study and frame of reference; DWI alone cannot distinguish an infarct from a "
            "bright vessel or an old scar"
        )
        lowest = min(weighted[0].bvalues)
        if lowest < weighted[0].bvalue / 2:
            return (
                f"{text}. The lowest b-value of the series is {lowest:g} s/mm^2; to use it as b0, "
                f"add --b0-below {math.floor(lowest) + 1}"
            )
        apart = [
            # Terminal only: UIDs contain dates and serial numbers and are never stored.
            f"series {image.series.number} ({'b0' if image.has_b0 else 'ADC'}) has a different "
            f"{uid[0]}: {uid[2]} instead of {uid[1]}"
            for image in images
            if (image.has_b0 or image.content == "adc")
            and (uid := differing_uid(dwi, image.series))
        ]
        if apart:
            return (
                f"{text}. {'; '.join(apart)}. If they belong together, convert them yourself and "
                "use --dwi, --b0 or --adc, and --bvalue"
            )
        return f"{text}; export one of them as well"
    if any(image.has_b0 for image in images):
        return (
            f"only b0 was found (series {numbers}), no diffusion-weighted image; "
            "export the DWI as well"
        )
    return f"only an ADC map was found (series {numbers}); export the DWI as well"
