"""Turn a DICOM folder into one case: find, convert and select series."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from infarct.core.atomic_write import scratch
from infarct.core.diffusion import B0_BELOW
from infarct.core.errors import ContentError, InfarctError, InputFileError, OutputError
from infarct.core.findings import Finding, FindingCode
from infarct.dicom.convert import Image, convert
from infarct.dicom.select_series import Choice, differing_uid, explain, rank, write_case
from infarct.dicom.series import Contents, Series, read_folder
from infarct.preprocessing.case import Case, CaseFiles
from infarct.preprocessing.load import open_case


@dataclass(frozen=True)
class Row:
    """One row of the table of series.

    Attributes:
        series: The series.
        images: Images converted from it.
        use: Use of the series, or why it was not used.
    """

    series: Series
    images: tuple[Image, ...]
    use: str


@dataclass(frozen=True)
class DicomCase:
    """One case from a DICOM folder; its files exist only inside the `opened_folder` context.

    Attributes:
        files: NIfTI files with neutral names.
        choice: Images they were created from.
        rows: All series in the folder.
        findings: Selected series and reasons, for the report; contain no patient names.
    """

    files: CaseFiles
    choice: Choice
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    def with_brain(self, brain: Path | None) -> DicomCase:
        """Return the case with your own brain mask; unchanged if None.

        Raises:
            InputFileError: If the file does not exist.
        """
        if brain is None:
            return self
        if not brain.is_file():
            raise InputFileError(f"{brain}: no such file; give the brain mask with --brain")
        # Use a neutral name: the manifest records file names.
        suffix = ".nii.gz" if brain.name.endswith(".gz") else ".nii"
        neutral = self.files.dwi.with_name(f"brain{suffix}")
        shutil.copyfile(brain, neutral)
        return replace(self, files=replace(self.files, brain=neutral))

    def open(self) -> Case:
        """Read and check the case, like `infarct.open_case`."""
        case = open_case(self.files)
        return replace(case, findings=(*self.findings, *case.findings))


@contextmanager
def opened_folder(
    folder: Path, wanted: str | None = None, b0_below: float = B0_BELOW
) -> Iterator[DicomCase]:
    """Find and convert the diffusion MRI in a folder, without modifying the folder.

    Args:
        folder: Export of a scanner, a PACS or a CD.
        wanted: Number or UID of the series to use as DWI; None selects the best.
        b0_below: s/mm^2; volumes with a lower b-value are averaged to the b0.

    Yields:
        The case. Its converted files are deleted when the context ends.

    Raises:
        InputFileError: If there are no DICOM images, or the wanted series does not exist.
        ContentError: If there is no diffusion MRI, or a part of the case is missing.
    """
    contents = read_folder(folder)
    found = list(contents.series)
    with scratch() as made:
        images: dict[str, list[Image]] = {}
        broken: dict[str, InfarctError] = {}
        for index, series in enumerate(found):
            if series.content != "other":
                try:
                    images[series.uid] = convert(series, made / str(index), b0_below)
                except InfarctError as error:
                    broken[series.uid] = error
        ranked = _ranked(contents, images, broken)
        choice = _chosen(ranked, found, wanted, broken)
        studies = len({series.study_uid for series in found})
        findings = [
            *explain(choice, len(ranked) - 1, studies),
            *_broken(found, broken),
            *_left_out(found, choice),
            *_not_read(contents),
        ]
        rows = [
            Row(series, tuple(images.get(series.uid, ())), _use(series, choice, ranked, broken))
            for series in found
        ]
        yield DicomCase(write_case(choice, made), choice, tuple(rows), tuple(findings))


def check_outside(folder: Path, out: Path) -> None:
    """Check that the output folder is separate from the input folder.

    Args:
        folder: Folder with DICOM files.
        out: Output folder.

    Raises:
        OutputError: If `out` is, contains or is inside the input folder.
    """
    source, target = folder.resolve(), out.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise OutputError(
            f"{out} is, contains or is inside the DICOM folder; input folders are never modified: "
            "choose another folder for --out"
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
        # The missing images may be among those that could not be read.
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
        raise InputFileError(f"--series {wanted}: no such series; available series: {there}")
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
        f"--series {wanted}: not a DWI with a b0 or an ADC map ({series.reason}); "
        f"possible series: {possible}"
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
        return f"used as {' and '.join(roles)}{why}"
    for other in ranked:
        if other.dwi.series.uid == series.uid:
            return f"candidate: {other.why}"
    if choice.aside is not None and choice.aside.series.uid == series.uid:
        return "not used: belongs, or may belong, to another acquisition"
    if series.content == "other":
        return series.reason
    apart = differing_uid(choice.dwi.series, series)
    return f"not used: {apart[0]} differs from the DWI" if apart else "not needed"


def _broken(found: list[Series], broken: dict[str, InfarctError]) -> list[Finding]:
    """Warn about diffusion series that could not be used: they may include a better one."""
    return [
        Finding(FindingCode.DICOM_UNUSABLE, "warning", f"DICOM: {broken[series.uid]}")
        for series in found
        if series.uid in broken
    ]


def _left_out(found: list[Series], choice: Choice) -> list[Finding]:
    """Warn about images of the selected series that were not used: they may be damaged volumes."""
    used = {image.series.uid for image in (choice.dwi, choice.b0, choice.adc) if image is not None}
    findings = []
    for series in found:
        if series.uid not in used:
            continue
        reasons = Counter(h.reason for h in series.left_out)
        if reasons:
            listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            text = (
                f"DICOM: series {series.number}: {reasons.total()} of its "
                f"{len(series.headers)} images were not used ({listed}); check that they do not "
                "belong to the scan"
            )
            findings.append(Finding(FindingCode.DICOM_UNUSABLE, "warning", text))
    return findings


def _not_read(contents: Contents) -> list[Finding]:
    """Report files that were not read: they may include a part of the scan."""
    findings = []
    if contents.losses:
        text = f"DICOM: {contents.losses}; check that no part of the scan is missing"
        findings.append(Finding(FindingCode.DICOM_UNREADABLE, "warning", text))
    if contents.other_files:
        text = f"DICOM: {contents.other_files} files in the folder are not DICOM and were ignored"
        findings.append(Finding(FindingCode.DICOM_OTHER_FILES, "note", text))
    return findings
