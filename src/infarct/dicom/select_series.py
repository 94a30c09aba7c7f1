"""Which images of a study become DWI, b0 and ADC, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from infarct.core.diffusion import B0_BELOW, USUAL_BVALUE
from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode
from infarct.core.nifti import read, write
from infarct.dicom.convert import Image
from infarct.dicom.headers import ADC_BY_NAME, TRACE
from infarct.dicom.series import Series
from infarct.preprocessing.case import CaseFiles


@dataclass(frozen=True)
class Choice:
    """What makes up one case.

    Attributes:
        dwi: Its shell nearest b = 1000 s/mm^2 is the DWI.
        b0: Where the b0 comes from; `dwi` itself when it has one; None if there is none.
        adc: ADC map of the scanner, if one belongs to it.
        aside: ADC map that would fit but is, or may be, of another acquisition: not taken.
        owners: Series that `adc` or `aside` may be of; empty when it is of the DWI for sure.
    """

    dwi: Image
    b0: Image | None
    adc: Image | None
    aside: Image | None = None
    owners: tuple[int, ...] = ()

    @property
    def why(self) -> str:
        """What speaks for it, in a few words."""
        dwi = self.dwi
        plane = "axial" if dwi.is_axial else "not axial"
        many = len(dwi.shell)
        shell = f"b {dwi.bvalue:.0f}" + (f" in {many} directions" if many > 1 else "")
        return f"{plane}, {shell}, {dwi.height_mm:.0f} mm of slices"


def rank(images: Iterable[Image]) -> list[Choice]:
    """Put together every case the images allow.

    Args:
        images: All that were converted, of one patient.

    Returns:
        Best first: the most recent day of study, then axial before others, then the b-value nearest
        1000 s/mm^2, then more of the head covered, then its own b0 before one from another series,
        then the later study of a day, then the lower series number.

    Raises:
        ContentError: If none is a DWI with a b0 or an ADC map.
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
        # A scan of an earlier day shows another state of the brain, however well it was scanned.
        -day,
        not dwi.is_axial,
        round(abs(dwi.bvalue - USUAL_BVALUE) / 100.0),
        -round(dwi.height_mm / 20.0),
        choice.b0 is not dwi,
        -time,
        dwi.series.number,
    )


def explain(choice: Choice, others: int, studies: int) -> tuple[Finding, ...]:
    """Say what was taken, for the report; numbers only, since descriptions may name a patient.

    Args:
        choice: What was taken.
        others: How many other cases were possible.
        studies: How many studies the folder holds.
    """
    dwi, b0, adc = choice.dwi, choice.b0, choice.adc
    parts = [f"series {dwi.series.number} ({dwi.series.maker}) was taken as DWI: {choice.why}"]
    if b0 is dwi:
        parts.append("its own b0")
    elif b0 is not None:
        parts.append(f"b0 from series {b0.series.number}")
    if adc is not None:
        parts.append(f"ADC from series {adc.series.number}")
    if choice.aside is not None:
        parts.append(f"ADC computed, since {_whose(choice.aside, choice.owners)}")
    found = [Finding(FindingCode.DICOM_SERIES, "note", "DICOM: " + ", ".join(parts))]
    if adc is not None and choice.owners:
        text = (
            f"DICOM: {_whose(adc, choice.owners)}; it was taken for series {dwi.series.number} "
            "because no b0 of that series is there: the head may have moved between the two, "
            "compare them"
        )
        found.append(Finding(FindingCode.DICOM_ADC, "warning", text))
    weighted = {i: round(b) for i, b in enumerate(dwi.bvalues) if b >= B0_BELOW}
    for image in {id(each): each for each in (dwi, b0, adc) if each is not None}.values():
        found += image.findings
    left = sorted({b for i, b in weighted.items() if i not in dwi.shell})
    if left:
        text = (
            f"DICOM: of several b-values the one nearest 1000 s/mm^2 was taken, "
            f"{dwi.bvalue:.0f}; left aside: {', '.join(map(str, left))}"
        )
        found.append(Finding(FindingCode.DICOM_BVALUES, "note", text))
    if others:
        text = (
            f"DICOM: {others} other series could have been taken; "
            "--series takes another, the terminal lists them"
        )
        found.append(Finding(FindingCode.DICOM_CANDIDATES, "note", text))
    if studies > 1:
        text = (
            f"DICOM: the folder holds {studies} studies; "
            f"check that series {dwi.series.number} is of the one you mean "
            "(--series takes a UID, the terminal lists them with their dates)"
        )
        found.append(Finding(FindingCode.DICOM_STUDIES, "warning", text))
    return tuple(found)


def write_case(choice: Choice, into: Path) -> CaseFiles:
    """Write the images of a case as NIfTI under neutral names.

    Directions are left side by side: `open_case` averages them to the trace-weighted image.

    Args:
        choice: What makes up the case.
        into: Folder of our own.
    """
    series = read(choice.dwi.path)
    dwi_path, b0_path, adc_path = (into / f"{name}.nii" for name in ("dwi", "b0", "adc"))
    own = [i for i, b in enumerate(choice.dwi.bvalues) if b < B0_BELOW]
    kept = [*own, *choice.dwi.shell]
    bvalue = choice.dwi.bvalue
    if len(kept) > 1:
        write(replace(series, data=series.data[..., kept]), dwi_path)
        bvalues = [0.0] * len(own) + [bvalue] * len(choice.dwi.shell)
        dwi_path.with_suffix(".bval").write_text(" ".join(f"{b:g}" for b in bvalues) + "\n")
    else:
        single = series.data if series.data.ndim == 3 else series.data[..., kept[0]]
        write(replace(series, data=single), dwi_path)
    if choice.b0 is not None and choice.b0 is not choice.dwi:
        signal = read(choice.b0.path)
        low = [i for i, b in enumerate(choice.b0.bvalues) if b < B0_BELOW]
        mean = signal.data if signal.data.ndim == 3 else signal.data[..., low].mean(axis=-1)
        write(replace(signal, data=mean), b0_path)
    if choice.adc is not None:
        write(read(choice.adc.path), adc_path)
    return CaseFiles(
        dwi=dwi_path,
        b0=b0_path if b0_path.is_file() else None,
        adc=adc_path if adc_path.is_file() else None,
        bvalue=bvalue,
    )


def _whose(image: Image, owners: tuple[int, ...]) -> str:
    """Say of which acquisition an ADC map is, or may be."""
    series = " or ".join(map(str, owners))
    belongs = "may be" if len(owners) > 1 else "is"
    return f"the ADC map of series {image.series.number} {belongs} of series {series}"


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
    # The head may have moved in between: rather compute than take that ADC, rather take than none.
    if b0 is not None and (b0 is dwi or len(owners) == 1):
        return Choice(dwi, b0, None, aside=nearest, owners=numbers)
    return Choice(dwi, b0, nearest, owners=numbers)


def _b0_for(dwi: Image, images: list[Image]) -> Image | None:
    if dwi.has_b0:
        return dwi
    return _nearest(dwi, [image for image in images if image.has_b0])


def _maps_for(dwi: Image, images: list[Image], b0: Image | None) -> list[Image]:
    """Return the ADC maps that lie where a DWI lies, the best first."""
    maps = [image for image in images if image.content == "adc" and _here(image) == _here(dwi)]
    on_grid = [image for image in maps if image.grid.matches(dwi.grid, tolerance_mm=0.1)]
    # A map on another grid may be of another acquisition: only if there is no other way to an ADC.
    fitting = maps if b0 is None else on_grid

    def order(image: Image) -> tuple[bool, bool, int, bool]:
        # Words are free: a map that its image type calls one comes before a map by name.
        off, apart, before = _distance(dwi, image)
        return off, image.series.reason == ADC_BY_NAME, apart, before

    return sorted(fitting, key=order)


def _owners(adc: Image, weighted: list[Image]) -> list[Image]:
    """Return the acquisition an ADC map was made from; several if that cannot be known."""
    here = [image for image in weighted if _here(image) == _here(adc)]
    on_grid = [image for image in here if image.grid.matches(adc.grid, tolerance_mm=0.1)]
    roots = [_root(image, weighted) for image in _made_from(adc, on_grid or here)]
    return list({root.series.uid: root for root in roots}.values())


def _root(image: Image, weighted: list[Image]) -> Image:
    """Return the series whose directions a trace is the mean of, if it is there, else the image."""
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


def _made_from(derived: Image, rivals: list[Image]) -> list[Image]:
    """Return those of some images that another may have been made from, by all that is known."""
    series = derived.series
    # What the rivals name too is what all were planned on, not what one was made from.
    sources = series.cited.difference(*(rival.series.cited for rival in rivals))
    # What headers say comes before numbers; GE numbers a map of series 3 as 350, all others count.
    hints: tuple[Callable[[Image], bool], ...] = (
        lambda rival: rival.series.uid == series.uid,
        lambda rival: any(header.uid in sources for header in rival.series.headers),
        lambda rival: _covers(rival.series.acquired, series.acquired),
        lambda rival: rival.series.number == series.number // 100,
    )
    for hint in hints:
        rivals = [rival for rival in rivals if hint(rival)] or rivals
    before = [rival.series.number for rival in rivals if rival.series.number <= series.number]
    return [r for r in rivals if not before or r.series.number == max(before)]


def _covers(whole: tuple[float, float] | None, part: tuple[float, float] | None) -> bool:
    return whole is not None and part is not None and whole[0] <= part[0] <= whole[1]


def _here(image: Image) -> tuple[str, str]:
    """Return what images share that may serve together: study and coordinates."""
    return image.series.study_uid, image.series.frame_of_reference


def _nearest(dwi: Image, images: list[Image]) -> Image | None:
    """Return the image that shares study and coordinates, best on the same grid, nearest number."""
    fitting = [image for image in images if _here(image) == _here(dwi)]
    return min(fitting, key=lambda image: _distance(dwi, image), default=None)


def _distance(dwi: Image, image: Image) -> tuple[bool, int, bool]:
    apart = image.series.number - dwi.series.number
    # Scanners number what they derive from a series after it.
    return not image.grid.matches(dwi.grid, tolerance_mm=0.1), abs(apart), apart < 0


def differing_uid(one: Series, other: Series) -> tuple[str, str, str] | None:
    """Return the name and both values of the UID that keeps two series from being combined."""
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
            f"series {dwi.number} is a DWI, but neither a b0 nor an ADC map of the same study and "
            "frame of reference is in the folder; DWI alone cannot distinguish an infarct from a "
            "bright vessel or an old scar"
        )
        apart = [
            # Only for the terminal: UIDs hold dates and serial numbers, so no result stores them.
            f"series {image.series.number} ({'b0' if image.has_b0 else 'ADC'}) has another "
            f"{uid[0]}: {uid[2]} instead of {uid[1]}"
            for image in images
            if (image.has_b0 or image.content == "adc")
            and (uid := differing_uid(dwi, image.series))
        ]
        if apart:
            return (
                f"{text}. {'; '.join(apart)}. If they belong together, convert them yourself and "
                "give --dwi, --b0 or --adc, and --bvalue"
            )
        return f"{text}: export them too"
    if any(image.has_b0 for image in images):
        return (
            f"only b0 was found (series {numbers}), nothing diffusion-weighted; export the DWI too"
        )
    return f"only ADC was found (series {numbers}); export the DWI too"
