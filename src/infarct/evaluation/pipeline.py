"""The whole story: masks of any tools in, scores, statistics, figures and one page out."""

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
"""Called with what is being done, how many are done and how many there are."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_MOST_NAMES = 10


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate.

    Attributes:
        reference: Directory of the reference masks; layouts as in `layouts`.
        predictions: Directory of masks by name of tool; the first is the tool under study.
        out: Where results go; new or empty.
        dwi: Directory of DWI, for contrast, histograms and the gallery.
        adc: Directory of ADC, for contrast.
        brain: Directory of brain masks; thresholds on the DWI outline the brain without it.
        subjects: `subjects.tsv`, see `subjects`.
        costs: Tab-separated `tool`, `parameters`, `seconds`, `memory_gb`, for Table 2.
        raters: Name of a human rater and directory of the masks; a name given twice is a second
            reading by the same rater. A rater need not have read every subject.
        focus: Cohort that strata, correlations and their figures are about; None for all.
        label: Which lesion masks are meant where subjects have several, by their label, such as
            `lesionAcute`; predictions without any such label are taken as they are.
        seed: Of the bootstrap.
        resamples: Bootstrap samples.
        workers: Processes; None for one per core. With more than one, a script must call
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
    """What came out.

    Attributes:
        results: Every score.
        analysis: Every statistic.
        tables: All tables, by name.
        notes: What was missing, skipped or counted as a failure.
        verdict: The outcome in plain words.
        report: The page.
    """

    results: Results
    analysis: Analysis
    tables: Mapping[str, Table]
    notes: tuple[str, ...]
    verdict: str
    report: Path


def evaluate(request: EvaluationRequest, progress: Progress | None = None) -> Evaluation:
    """Score the masks of tools against a reference and write everything down.

    Args:
        request: What to evaluate.
        progress: Told how far it is.

    Raises:
        InputFileError: If files are missing, doubled, or belong to none of the subjects.
        GeometryError: If a prediction lies on another grid than its reference, or an image is a
            series.
        ContentError: If a mask is not a mask.
        OutputError: If the output directory holds something else, or cannot be written.
    """
    # A link to a folder is that folder: it is replaced where it lies.
    out = request.out.resolve()
    _check_output(out, request)
    with reserved(out):
        _check_output(out, request)
        return _evaluate(request, out, progress)


def _evaluate(request: EvaluationRequest, out: Path, progress: Progress | None) -> Evaluation:
    cases, notes = gather(request)
    table, costs = read_subjects(request.subjects, cases), read_costs(request.costs)
    if unnamed := [tool for tool in costs if tool not in request.predictions]:
        notes.append(f"In the table of costs, but no tool of that name: {_listed(unnamed)}.")
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
    """Write everything but the pictures, which lie in the directory already."""
    making = Making(evaluation.notes, request.resamples, request.seed)
    write_scores(evaluation.results, directory / "scores.tsv")
    write_json(evaluation.results, evaluation.analysis, making, directory / "evaluation.json")
    for table in evaluation.tables.values():
        write_table(table, directory / f"{table.name}.tsv")
    write_page(evaluation.results, sections, making, evaluation.verdict, directory)
    list_files(directory)


def gather(request: EvaluationRequest) -> tuple[dict[str, Case], list[str]]:
    """Find the files of every subject of the reference, and say what is missing.

    Returns:
        Cases by subject, and notes for the reader.
    """
    if not request.predictions:
        raise InputFileError("no predictions were given; name at least one tool and its directory")
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
                f"{request.predictions[tool]}: holds no subject of the reference; its first is "
                f"{next(iter(found))!r}, the reference's {next(iter(references))!r}: give the "
                "files of a subject the same name"
            )
        if missing:
            notes.append(
                f"{tool}: no prediction for {len(missing)} of {len(references)} subjects, "
                f"each counted as a failure: {_listed(missing)}."
            )
        if extra:
            notes.append(f"{tool}: {len(extra)} masks without a reference: {_listed(extra)}.")
    readings = [find_images(path, "lesion") for _, path in request.raters]
    for name, read in zip(reading_names([n for n, _ in request.raters]), readings, strict=True):
        if not any(subject in read for subject in references):
            raise InputFileError(f"{name}: holds no subject of the reference; check the file names")
        if unread := [subject for subject in references if subject not in read]:
            notes.append(f"{name}: {len(unread)} of {len(references)} subjects were not read.")
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
            notes.append(f"No {kind} for {len(absent)} subjects: {_listed(absent)}.")
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
    """Name the subjects and tools without a mask of the label that was asked for."""
    notes = []
    without = sorted(subjects_with(request.reference) - labelled)
    if without:
        notes.append(
            f"No reference mask labelled {label} for {len(without)} subjects, which are not "
            f"evaluated: {_listed(without)}."
        )
    unlabelled = [tool for tool, at in request.predictions.items() if not subjects_with(at, label)]
    if unlabelled:
        notes.append(f"No mask labelled {label}, all masks were used: {_listed(unlabelled)}.")
    return notes


def _listed(names: list[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _notes_on(results: Results, request: EvaluationRequest) -> list[str]:
    notes = []
    if request.focus is not None and not results.focused.subjects:
        raise InputFileError(
            f"no subject with a lesion belongs to the cohort {request.focus!r}; "
            f"the subjects' table has {', '.join(results.cohorts.levels) or 'no cohorts'}"
        )
    raters = (path for _, path in request.raters)
    places = dict.fromkeys((request.reference, *request.predictions.values(), *raters))
    if others := dict.fromkeys(name for place in places for name in other_images(place)):
        notes.append(f"Taken for no mask, by the end of their names: {_listed(list(others))}.")
    if labelled := [str(path) for case in results.measured.values() for path in case.labelled]:
        notes.append(
            "More than one label in a mask, all of them counted as lesion, in "
            f"{len(labelled)} files: {_listed(labelled)}."
        )
    if request.subjects is None:
        notes.append("No table of subjects was given: strata other than volume are skipped.")
    else:
        if results.table.unlisted:
            unlisted = list(results.table.unlisted)
            notes.append(f"Not in the table of subjects: {_listed(unlisted)}.")
        if results.table.unread:
            cells = _listed(list(results.table.unread))
            notes.append(f"Taken as unknown, being no number or no usual field strength: {cells}.")
        if results.table.missing:
            columns = ", ".join(TITLES[column].lower() for column in results.table.missing)
            notes.append(f"Skipped, as the table of subjects has no such column: {columns}.")
    if request.dwi is None:
        notes.append("No DWI was given: no contrast in DWI, and a gallery of contours alone.")
    elif request.brain is None:
        notes.append("No brain masks were given: the brain was outlined by thresholds.")
    if beyond := [name for name, case in results.measured.items() if not case.covers]:
        notes.append(
            f"DWI or ADC do not reach all of the brain of {len(beyond)} subjects, and contrast is "
            f"measured where they do: {_listed(beyond)}."
        )
    if request.adc is None:
        notes.append("No ADC was given: no contrast in ADC, and normal tissue includes fluid.")
    return notes


def _check_output(out: Path, request: EvaluationRequest) -> None:
    """Refuse a place that is taken or cannot be written, before all the work rather than after."""
    others = (request.dwi, request.adc, request.brain, request.subjects, request.costs)
    raters = (path for _, path in request.raters)
    inputs = (request.reference, *request.predictions.values(), *raters, *others)
    try:
        refuse_to_replace(out, (path for path in inputs if path is not None))
        if out.is_dir():
            _refuse_to_lose(out, out, request)
        # Permissions do not tell all, as of a disk that is mounted read-only: it is tried.
        with tempfile.TemporaryDirectory(dir=next(p for p in out.parents if p.exists())):
            pass
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error}); give another place") from error


def _refuse_to_lose(folder: Path, out: Path, request: EvaluationRequest) -> None:
    """Refuse to replace a folder, which may have been moved aside from `out`, by what must stay."""
    if not any(folder.iterdir()):
        return
    if not (folder / "evaluation.json").is_file():
        raise OutputError(f"{out}: holds something else than an evaluation; give another name")
    if not request.overwrite:
        raise OutputError(f"{out}: holds an earlier evaluation; allow overwriting it")
    if others := other_files(folder):
        raise OutputError(
            f"{out}: holds files that are not of the earlier evaluation and would be lost: "
            f"{_listed(others)}; nothing was replaced: move them elsewhere"
        )


def _each(
    function: Callable[[Item], Outcome], items: Iterable[Item], workers: int
) -> Iterator[Outcome]:
    """Apply a function to each item, in order, on all workers."""
    items = list(items)
    if workers == 1 or len(items) <= 1:
        yield from map(function, items)
        return
    context = get_context("spawn")  # a fork of a process that has threads can hang
    try:
        count = min(workers, len(items))
        with ProcessPoolExecutor(count, context, initializer=quiet_for_good) as pool:
            yield from pool.map(function, items, chunksize=max(1, min(8, len(items) // workers)))
    except BrokenProcessPool as error:
        raise CohortError(
            "a worker process died, most likely for want of memory; nothing was written: try again "
            "with fewer --workers"
        ) from error
