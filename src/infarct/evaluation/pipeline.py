"""Runs an evaluation: reads masks, computes scores and statistics, writes figures and a report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from infarct.core.atomic_write import atomic_directory, refuse_to_replace, reserved
from infarct.core.errors import CohortError, InputFileError, OutputError
from infarct.core.machine import cores
from infarct.core.process_setup import quiet_for_good
from infarct.core.units import format_names
from infarct.evaluation.analysis import Analysis, analyse
from infarct.evaluation.costs import read_costs
from infarct.evaluation.file_layouts import find_images, other_images, subjects_with
from infarct.evaluation.raters import reading_names
from infarct.evaluation.report import (
    Making,
    Section,
    list_files,
    other_files,
    verdict,
    write_json,
    write_page,
    write_scores,
    write_table,
)
from infarct.evaluation.report_contents import all_drawings, all_sections, all_tables, draw
from infarct.evaluation.score_table import Results
from infarct.evaluation.subject_scores import Case, measure
from infarct.evaluation.subjects import TITLES, read_subjects
from infarct.evaluation.tables import Table

Progress = Callable[[str, int, int], None]
"""Progress callback, called with the current step, the number of items done and their total."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class EvaluationRequest:
    """Inputs and options of an evaluation.

    Attributes:
        reference: Directory of the reference masks. For layouts see `file_layouts`.
        predictions: Directory of lesion masks by tool name. The first is the tool under study.
        out: Output directory; must be new or empty.
        dwi: Directory of DWI images, used for contrast, histograms and the gallery.
        adc: Directory of ADC maps, used for contrast.
        brain: Directory of brain masks. Without it the brain is segmented by thresholds on the DWI.
        subjects: Path of `subjects.tsv`, see `subjects`.
        costs: Path of a tab-separated table with columns `tool`, `parameters`, `seconds` and
            `memory_gb`, for Table 2.
        raters: Pairs of human rater name and directory of masks. A name given twice is a second
            reading by the same rater. Raters may have read only some of the subjects.
        focus: Cohort used for strata, correlations and their figures; None for all subjects.
        label: Label that selects the lesion mask if subjects have several, such as `lesionAcute`.
            If a tool has no mask with this label, all its masks are used.
        seed: Seed of the bootstrap.
        resamples: Number of bootstrap resamples.
        workers: Number of processes; None for one per core. With more than one, a script must call
            `evaluate` under `if __name__ == "__main__":`.
        overwrite: Replace an earlier evaluation in `out`.
    """

    reference: Path
    predictions: Mapping[str, Path]
    out: Path
    dwi: Path | None = None
    adc: Path | None = None
    brain: Path | None = None
    subjects: Path | None = None
    costs: Path | None = None
    raters: tuple[tuple[str, Path], ...] = ()
    focus: str | None = None
    label: str | None = None
    seed: int = 0
    resamples: int = 2000
    workers: int | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        results: All scores.
        analysis: All statistics.
        tables: All tables, by name.
        notes: Missing, skipped or failed items.
        verdict: Summary of the main result in words.
        report: Path of the HTML report.
    """

    results: Results
    analysis: Analysis
    tables: Mapping[str, Table]
    notes: tuple[str, ...]
    verdict: str
    report: Path


def evaluate(request: EvaluationRequest, progress: Progress | None = None) -> Evaluation:
    """Score lesion masks of one or more tools against a reference and write the report.

    Args:
        request: Inputs and options.
        progress: Progress callback, or None.

    Returns:
        Scores, statistics and tables; the same are written to `request.out`.

    Raises:
        InputFileError: If files are missing, ambiguous, or match none of the subjects.
        GeometryError: If the grids of a prediction and its reference differ, or an image is a
            series.
        ContentError: If a file does not contain a mask.
        OutputError: If the output directory contains other files or cannot be written.
    """
    # Resolve symbolic links: the folder that a link points to is replaced, not the link.
    out = request.out.resolve()
    _check_output(out, request)
    with reserved(out):
        _check_output(out, request)
        return _evaluate(request, out, progress)


def _evaluate(request: EvaluationRequest, out: Path, progress: Progress | None) -> Evaluation:
    cases, notes = gather(request)
    table, costs = read_subjects(request.subjects, cases), read_costs(request.costs)
    if unnamed := [tool for tool in costs if tool not in request.predictions]:
        notes.append(
            f"The table of costs names tools that were not given: {format_names(unnamed)}."
        )
    workers = request.workers or cores()
    report_progress = progress or (lambda *_: None)
    measured = {}
    for done, each in enumerate(_each(measure, cases.values(), workers), start=1):
        measured[each.subject] = each
        report_progress("measuring subjects", done, len(cases))
    raters = tuple(name for name, _ in request.raters)
    results = Results(tuple(request.predictions), measured, table, request.focus, raters)
    notes += _notes_on(results, request)
    analysis = analyse(results, np.random.default_rng(request.seed), request.resamples)
    report_progress("computing statistics", 1, 1)
    evaluation = Evaluation(
        results=results,
        analysis=analysis,
        tables=all_tables(results, analysis, costs),
        notes=tuple(notes),
        verdict=verdict(analysis),
        report=request.out / "report.html",
    )
    with atomic_directory(out, lambda old: _refuse_to_lose(old, out, request)) as work:
        drawings = all_drawings(results, analysis, cases, evaluation.tables)
        for drawn, _ in enumerate(_each(partial(draw, work), drawings.items(), workers), start=1):
            report_progress("drawing", drawn, len(drawings))
        _write(evaluation, all_sections(results, evaluation.tables, drawings), request, work)
    return evaluation


def _write(
    evaluation: Evaluation, sections: list[Section], request: EvaluationRequest, directory: Path
) -> None:
    """Write all outputs except the figures, which are in the directory already."""
    making = Making(evaluation.notes, request.resamples, request.seed)
    write_scores(evaluation.results, directory / "scores.tsv")
    write_json(evaluation.results, evaluation.analysis, making, directory / "evaluation.json")
    for table in evaluation.tables.values():
        write_table(table, directory / f"{table.name}.tsv")
    write_page(evaluation.results, sections, making, evaluation.verdict, directory)
    list_files(directory)


def gather(request: EvaluationRequest) -> tuple[dict[str, Case], list[str]]:
    """Find the files of every subject in the reference directory and note missing ones.

    Args:
        request: Inputs and options.

    Returns:
        Cases by subject, and notes on missing files.

    Raises:
        InputFileError: If files are missing, ambiguous, or match none of the subjects.
    """
    if not request.predictions:
        raise InputFileError("no predictions given; name at least one tool and its directory")
    label = request.label
    notes: list[str] = []
    references = find_images(request.reference, "lesion", label)
    masks = {
        tool: find_images(path, "lesion", label if subjects_with(path, label) else None)
        for tool, path in request.predictions.items()
    }
    if label is not None:
        notes += _notes_on_label(request, label, set(references))
    for tool, found in masks.items():
        missing = [subject for subject in references if subject not in found]
        extra = [subject for subject in found if subject not in references]
        if len(missing) == len(references):
            raise InputFileError(
                f"{request.predictions[tool]}: no subject matches the reference. The first "
                f"subject here is {next(iter(found))!r}, in the reference "
                f"{next(iter(references))!r}. Give all files of a subject the same name"
            )
        if missing:
            notes.append(
                f"{tool}: no prediction for {len(missing)} of {len(references)} subjects, which "
                f"are counted as failures: {format_names(missing)}."
            )
        if extra:
            notes.append(
                f"{tool}: {len(extra)} masks without a reference were ignored: "
                f"{format_names(extra)}."
            )
    readings = [find_images(path, "lesion") for _, path in request.raters]
    for name, read in zip(reading_names([n for n, _ in request.raters]), readings, strict=True):
        if not any(subject in read for subject in references):
            raise InputFileError(f"{name}: no subject matches the reference; check the file names")
        if unread := [subject for subject in references if subject not in read]:
            notes.append(f"{name}: no reading of {len(unread)} of {len(references)} subjects.")
    images = {
        kind: {} if directory is None else find_images(directory, kind)
        for kind, directory in (
            ("dwi", request.dwi),
            ("adc", request.adc),
            ("brain", request.brain),
        )
    }
    for kind, there in images.items():
        absent = [subject for subject in references if subject not in there]
        if there and absent:
            notes.append(f"No {kind} for {len(absent)} subjects: {format_names(absent)}.")
    cases = {
        subject: Case(
            subject=subject,
            reference=path,
            predictions={tool: found.get(subject) for tool, found in masks.items()},
            readings=tuple(read.get(subject) for read in readings),
            **{kind: there.get(subject) for kind, there in images.items()},
        )
        for subject, path in references.items()
    }
    return cases, notes


def _notes_on_label(request: EvaluationRequest, label: str, labelled: set[str]) -> list[str]:
    """Report subjects and tools without a mask that has the requested label."""
    notes = []
    without = sorted(subjects_with(request.reference) - labelled)
    if without:
        notes.append(
            f"No reference mask with label {label} for {len(without)} subjects, which are not "
            f"evaluated: {format_names(without)}."
        )
    unlabelled = [tool for tool, at in request.predictions.items() if not subjects_with(at, label)]
    if unlabelled:
        notes.append(
            f"No masks with label {label}, so all masks were used: {format_names(unlabelled)}."
        )
    return notes


def _notes_on(results: Results, request: EvaluationRequest) -> list[str]:
    notes = []
    if request.focus is not None and not results.focused.subjects:
        raise InputFileError(
            f"no subject with a lesion belongs to the cohort {request.focus!r}; "
            f"the table of subjects has: {', '.join(results.cohorts.levels) or 'no cohorts'}"
        )
    raters = (path for _, path in request.raters)
    places = dict.fromkeys((request.reference, *request.predictions.values(), *raters))
    if others := dict.fromkeys(name for place in places for name in other_images(place)):
        notes.append(
            "Ignored because the file name indicates another image type: "
            f"{format_names(list(others))}."
        )
    if labelled := [str(path) for case in results.measured.values() for path in case.labelled]:
        notes.append(
            "Masks with more than one label, all counted as lesion "
            f"({len(labelled)} files): {format_names(labelled)}."
        )
    if request.subjects is None:
        notes.append("No table of subjects was given; only strata by lesion volume are available.")
    else:
        if results.table.unlisted:
            unlisted = list(results.table.unlisted)
            notes.append(f"Subjects missing from the table of subjects: {format_names(unlisted)}.")
        if results.table.unread:
            cells = format_names(list(results.table.unread))
            notes.append(
                f"Treated as unknown (not a number, or not a standard field strength): {cells}."
            )
        if results.table.missing:
            columns = ", ".join(TITLES[column].lower() for column in results.table.missing)
            notes.append(f"Skipped because the table of subjects has no such column: {columns}.")
    if request.dwi is None:
        notes.append(
            "No DWI was given; DWI contrast is not computed and the gallery shows contours only."
        )
    elif request.brain is None:
        notes.append("No brain masks were given; the brain was segmented by thresholds on the DWI.")
    if beyond := [name for name, case in results.measured.items() if not case.covers]:
        notes.append(
            f"DWI or ADC does not cover the whole brain in {len(beyond)} subjects; contrast is "
            f"measured in the covered part: {format_names(beyond)}."
        )
    if request.adc is None:
        notes.append(
            "No ADC was given; ADC contrast is not computed and normal tissue includes CSF."
        )
    return notes


def _check_output(out: Path, request: EvaluationRequest) -> None:
    """Refuse an output path that is in use or not writable, before any computation."""
    others = (request.dwi, request.adc, request.brain, request.subjects, request.costs)
    raters = (path for _, path in request.raters)
    inputs = (request.reference, *request.predictions.values(), *raters, *others)
    try:
        refuse_to_replace(out, (path for path in inputs if path is not None))
        if out.is_dir():
            _refuse_to_lose(out, out, request)
        # Permission bits are not sufficient, for example on a read-only mount, so try to write.
        with tempfile.TemporaryDirectory(dir=next(p for p in out.parents if p.exists())):
            pass
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error}); choose another output folder"
        ) from error


def _refuse_to_lose(folder: Path, out: Path, request: EvaluationRequest) -> None:
    """Refuse to replace a folder that contains other files (`out`, or its copy moved aside)."""
    if not any(folder.iterdir()):
        return
    if not (folder / "evaluation.json").is_file():
        raise OutputError(
            f"{out}: the folder is not empty and is not an evaluation; choose another output folder"
        )
    if not request.overwrite:
        raise OutputError(f"{out}: contains an earlier evaluation; allow overwriting to replace it")
    if others := other_files(folder):
        raise OutputError(
            f"{out}: contains files that do not belong to the earlier evaluation and would be "
            f"lost: {format_names(others)}; nothing was replaced. Move these files elsewhere"
        )


def _each(
    function: Callable[[Item], Outcome], items: Iterable[Item], workers: int
) -> Iterator[Outcome]:
    """Apply a function to all items in parallel; yield the results in order."""
    items = list(items)
    if workers == 1 or len(items) <= 1:
        yield from map(function, items)
        return
    context = get_context("spawn")  # forking a process that has threads can deadlock
    try:
        count = min(workers, len(items))
        with ProcessPoolExecutor(count, context, initializer=quiet_for_good) as pool:
            yield from pool.map(function, items, chunksize=max(1, min(8, len(items) // workers)))
    except BrokenProcessPool as error:
        raise CohortError(
            "a worker process died, probably because memory ran out; nothing was written. Try "
            "again with fewer --workers"
        ) from error
