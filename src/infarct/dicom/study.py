"""From a scanner's folder to one case: find, convert, choose, and say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from infarct.core.atomic_write import scratch
from infarct.core.errors import ContentError, InfarctError, InputFileError, OutputError
from infarct.core.findings import Finding, FindingCode
from infarct.dicom.convert import Image, convert
from infarct.dicom.select_series import Choice, differing_uid, explain, rank, write_case
from infarct.dicom.series import Contents, Series, read_folder
from infarct.preprocessing.case import Case, CaseFiles
from infarct.preprocessing.load import open_case


@dataclass(frozen=True)
class Row:
    """One series of the folder, for people.

    Attributes:
        series: Which.
        images: What it was converted to.
        use: What was done with it, or why nothing.
    """

    series: Series
    images: tuple[Image, ...]
    use: str


@dataclass(frozen=True)
class DicomCase:
    """One case from a folder of DICOM; its files live only as long as `opened_folder` is open.

    Attributes:
        files: NIfTI files with neutral names.
        choice: What they were made of.
        rows: Every series of the folder.
        findings: What was taken and why, for the report; names no patient.
    """

    files: CaseFiles
    choice: Choice
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    def open(self, brain: Path | None = None) -> Case:
        """Read and check the case, as `infarct.open_case`.

        Args:
            brain: Brain mask drawn or made elsewhere.
        """
        if brain is not None:
            # Under a neutral name: the manifest records the names of files.
            suffix = ".nii.gz" if brain.name.endswith(".gz") else ".nii"
            neutral = self.files.dwi.with_name(f"brain{suffix}")
            if not brain.is_file():
                raise InputFileError(f"{brain}: no such file; give the brain mask with --brain")
            shutil.copyfile(brain, neutral)
            brain = neutral
        case = open_case(replace(self.files, brain=brain))
        return replace(case, findings=(*self.findings, *case.findings))


@contextmanager
def opened_folder(folder: Path, wanted: str | None = None) -> Iterator[DicomCase]:
    """Find and convert the diffusion MRI in a folder; the folder itself is only read.

    Args:
        folder: Anything a scanner, a PACS or a CD left.
        wanted: Number or UID of the series to take as DWI; None takes the best.

    Yields:
        The case. Its converted files are deleted when the context ends.

    Raises:
        InputFileError: If there are no DICOM images, or the wanted series is not there.
        ContentError: If nothing is diffusion MRI, or a part of the case is missing.
    """
    contents = read_folder(folder)
    found = list(contents.series)
    with scratch() as made:
        images: dict[str, list[Image]] = {}
        broken: dict[str, InfarctError] = {}
        for index, series in enumerate(found):
            if series.content != "other":
                try:
                    images[series.uid] = convert(series, made / str(index))
                except InfarctError as error:
                    broken[series.uid] = error
        ranked = _ranked(contents, images, broken)
        choice = _chosen(ranked, found, wanted, broken)
        studies = len({series.study_uid for series in found})
        findings = [
            *explain(choice, len(ranked) - 1, studies),
            *_broken(found, broken),
            *_not_read(contents),
        ]
        rows = [
            Row(series, tuple(images.get(series.uid, ())), _use(series, choice, ranked, broken))
            for series in found
        ]
        yield DicomCase(write_case(choice, made), choice, tuple(rows), tuple(findings))


def check_outside(folder: Path, out: Path) -> None:
    """Refuse to write into the folder that is read.

    Args:
        folder: Of DICOM files.
        out: Folder to make for results.

    Raises:
        OutputError: If `out` is that folder, lies in it, or holds it.
    """
    source, target = folder.resolve(), out.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise OutputError(
            f"{out} and the DICOM folder lie one in the other; folders of inputs are never "
            "written to: give --out a folder elsewhere"
        )


def _ranked(
    contents: Contents, images: dict[str, list[Image]], broken: dict[str, InfarctError]
) -> list[Choice]:
    found, losses = contents.series, [contents.losses] if contents.losses else []
    if not images and not broken:
        seen = "; ".join(f"{s.number} {s.description}: {s.reason}" for s in found[:20])
        text = f"none of the {len(found)} series is diffusion MRI ({seen})"
        raise ContentError("; ".join([text, *losses]))
    try:
        return rank(image for converted in images.values() for image in converted)
    except ContentError as error:
        # What is missing may be what could not be read.
        reasons = [*([error] if images else []), *broken.values(), *losses]
        raise ContentError("; ".join(map(str, reasons))) from error


def _chosen(
    ranked: list[Choice],
    found: list[Series],
    wanted: str | None,
    broken: dict[str, InfarctError],
) -> Choice:
    if wanted is None:
        return ranked[0]
    named = [series for series in found if wanted in (series.uid, str(series.number))]
    if not named:
        there = ", ".join(str(series.number) for series in found)
        raise InputFileError(f"--series {wanted}: there is no such series; there are {there}")
    if len(named) > 1:
        uids = ", ".join(f"{series.uid} (study of {series.study_date})" for series in named)
        raise InputFileError(
            f"--series {wanted}: {len(named)} series have this number; give the UID: {uids}"
        )
    (series,) = named
    if series.uid in broken:
        raise broken[series.uid]
    for choice in ranked:
        if choice.dwi.series.uid == series.uid:
            return choice
    possible = ", ".join(str(choice.dwi.series.number) for choice in ranked)
    raise ContentError(
        f"--series {wanted}: is no DWI with a b0 or an ADC map ({series.reason}); "
        f"these could be taken: {possible}"
    )


def _use(
    series: Series, choice: Choice, ranked: list[Choice], broken: dict[str, InfarctError]
) -> str:
    if series.uid in broken:
        return f"cannot be used: {str(broken[series.uid]).partition(': ')[2]}"
    parts = {"DWI": choice.dwi, "b0": choice.b0, "ADC": choice.adc}
    roles = [role for role, image in parts.items() if image and image.series.uid == series.uid]
    if roles:
        why = f": {choice.why}" if "DWI" in roles else ""
        return f"taken as {' and '.join(roles)}{why}"
    for other in ranked:
        if other.dwi.series.uid == series.uid:
            return f"candidate: {other.why}"
    if choice.aside is not None and choice.aside.series.uid == series.uid:
        return "left aside: of another acquisition, or it may be"
    if series.content == "other":
        return series.reason
    apart = differing_uid(choice.dwi.series, series)
    return f"not used: not the {apart[0]} of the DWI" if apart else "not needed"


def _broken(found: list[Series], broken: dict[str, InfarctError]) -> list[Finding]:
    """Warn of diffusion series that could not be used: a better one may be among them."""
    return [
        Finding(FindingCode.DICOM_UNUSABLE, "warning", f"DICOM: {broken[series.uid]}")
        for series in found
        if series.uid in broken
    ]


def _not_read(contents: Contents) -> list[Finding]:
    """Report the files of which nothing is known: a part of the scan may be among them."""
    findings = []
    if contents.losses:
        text = f"DICOM: {contents.losses}; check that no part of the scan is missing"
        findings.append(Finding(FindingCode.DICOM_UNREADABLE, "warning", text))
    if contents.other_files:
        text = f"DICOM: {contents.other_files} files in the folder are not DICOM and were ignored"
        findings.append(Finding(FindingCode.DICOM_OTHER_FILES, "note", text))
    return findings
