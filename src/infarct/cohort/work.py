"""One case in a worker process: skipped if it is done, else made and put in its place at once."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from infarct import assets
from infarct.case import open_case
from infarct.cohort.jobs import Job, Outcome, Settings
from infarct.cohort.pictures import thumbnail
from infarct.errors import (
    AssetError,
    InfarctError,
    InputFileError,
    MemoryShortageError,
    OutputError,
)
from infarct.input_files import check_file
from infarct.pipeline import segment_case
from infarct.report import check_destination, write_results
from infarct.segmenters import get_segmenter
from infarct.stored import AUDIT, ELSEWHERE, OUTLINE, THUMBNAIL, is_result
from infarct.tables import as_json, write_json
from infarct.volume import read


def process(job: Job, settings: Settings) -> Outcome:
    """Bring one case to its end; whatever goes wrong with it is its outcome, not an error.

    Args:
        job: The case.
        settings: Of the run.
    """
    start = time.perf_counter()
    try:
        fresh = not is_done(job, settings)
        if fresh:
            _make(job, settings)
        summary = json.loads(job.output("summary.json").read_text(encoding="utf-8"))
    except InfarctError as error:
        return _failed(job, error.exit_code, str(error), start)
    except MemoryError:
        shortage = MemoryShortageError()
        return _failed(job, shortage.exit_code, str(shortage), start)
    except Exception as error:  # a fault of ours or of a library must not stop the other cases
        return _failed(job, InfarctError.exit_code, f"{type(error).__name__}: {error}", start)
    return Outcome(
        job.id,
        "done",
        volume_ml=summary["lesion_volume_ml"],
        lesions=summary["lesion_count"],
        warnings=len(summary["warnings"]),
        seconds=time.perf_counter() - start if fresh else None,
        fresh=fresh,
    )


def is_done(job: Job, settings: Settings) -> bool:
    """Tell whether the complete result is there, of the same inputs, version and settings."""
    try:
        manifest = _manifest_of(job)
        json.loads(job.output("summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    made = {
        key: manifest.get(key)
        for key in ("infarct", "model", "networks", "inputs", "assets", "cohort")
    }
    there = all(export.path.is_file() for export in job.exports) and not _edited(job)
    return there and not job.problem and made == _recipe(job, settings)


def clean(jobs: Sequence[Job]) -> None:
    """Remove what killed workers left half-written of these cases."""
    ids = {job.id for job in jobs}
    for parent in {job.folder.parent for job in jobs if job.folder.parent.is_dir()}:
        for path in parent.glob(".*.partial-*"):
            if path.name[1:].rpartition(".partial-")[0] in ids:
                # Out of reach at once: if it is another run that is writing there, its case fails
                # and is tried again, but half of it cannot be taken for the whole.
                doomed = path.with_name(f"{path.name}-doomed")
                with suppress(OSError):
                    path.rename(doomed)
                shutil.rmtree(doomed, ignore_errors=True)
    exports = [export.path for job in jobs for export in job.exports]
    places = {path for export in exports for path in (export, _sidecar(export))}
    for parent in {path.parent for path in places}:
        for path in parent.glob(".*.partial-*"):
            if path.with_name(path.name[1:].rpartition(".partial-")[0]) in places:
                path.unlink(missing_ok=True)


def _recipe(job: Job, settings: Settings) -> dict[str, Any]:
    """Return what decides a result, as it reads back from `manifest.json`.

    Raises:
        InputFileError: If an input is not there.
    """

    def seen(path: Path) -> dict[str, str]:
        check_file(path, "an image")
        return {"file": path.name, "sha256": assets.sha256(path)}

    bval = job.files.bval_path()
    content = {
        "infarct": settings.infarct,
        "model": settings.model,
        # One's own networks are no assets, and may change under the same name.
        "networks": {
            file.name: assets.sha256(file) for file in get_segmenter(settings.model).networks
        },
        "inputs": {role: seen(path) for role, path in job.files.paths().items()},
        "assets": {name: asset.sha256 for name, asset in assets.index().items()},
        "cohort": {
            "id": job.id,
            "bvalue": job.files.bvalue,
            "bval": assets.sha256(bval) if bval else None,
        },
    }
    recipe: dict[str, Any] = json.loads(as_json(content))
    return recipe


def _make(job: Job, settings: Settings) -> None:
    if job.problem:
        raise InputFileError(job.problem)
    if version("infarct") != settings.infarct:
        raise AssetError(
            f"this worker has infarct {version('infarct')}, the run was started with "
            f"{settings.infarct}; install the same version everywhere"
        )
    check_destination(job.folder, job.files.paths().values(), overwrite=True)
    _refuse_worked_on(job)
    recipe = _recipe(job, settings)
    result = segment_case(open_case(job.files), settings.model)
    with _workplace(job) as place:
        made = write_results(result, place / "result", command=settings.command)
        picture = thumbnail(read(made / "mni/dwi.nii.gz"), read(made / "mni/lesion_mask.nii.gz"))
        (made / THUMBNAIL).write_bytes(picture)
        manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
        write_json({**manifest, **recipe}, made / "manifest.json")
        # Again: it may have been corrected meanwhile.
        _refuse_worked_on(job)
        publish(made, job)


def _refuse_worked_on(job: Job) -> None:
    """Leave a result alone that somebody made or worked on: only they can say that it may go."""
    if is_result(job.folder) and "cohort" not in _manifest_of(job):
        raise OutputError(
            f"{job.folder} holds a result that was not made by a cohort; nothing was replaced: "
            "move it elsewhere, or give the cohort another folder"
        )
    if (job.folder / AUDIT).is_file():
        raise OutputError(
            f"{job.folder} was corrected by hand (it holds {AUDIT}), and its input, b-value, "
            "version or method is not that of this run, or a file of it is gone; nothing was "
            "replaced: move it elsewhere to have the scan outlined anew"
        )
    if _edited(job):
        outline = job.output(OUTLINE).name
        raise OutputError(
            f"{outline} was changed after it was written, so the numbers of {job.folder} are not "
            "its own; nothing was replaced: keep a copy of it elsewhere, remove the folder and run "
            "again, then give the copy to `infarct recompute --mask`"
        )


def _manifest_of(job: Job) -> dict[str, Any]:
    manifest = json.loads((job.folder / "manifest.json").read_text("utf-8"))
    if not isinstance(manifest, dict):
        raise ValueError(f"the manifest of {job.id} is none of ours")
    return manifest


def _edited(job: Job) -> bool:
    """Tell whether there is an outline that is not the one of the manifest."""
    try:
        written = _manifest_of(job).get("outputs", {}).get(OUTLINE)
        return bool(written) and assets.sha256(job.output(OUTLINE)) != written
    except (OSError, ValueError):
        return False


@contextmanager
def _workplace(job: Job) -> Iterator[Path]:
    """Give a hidden folder beside the destination, and remove it whatever happens."""
    # Host and process: after a lost connection two workers may run the same case for a while.
    own = f".{job.id}.partial-{socket.gethostname()}-{os.getpid()}"
    place = job.folder.with_name(own)
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        yield place
    except OSError as error:
        raise OutputError(f"the results of {job.id} cannot be written: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def publish(made: Path, job: Job) -> None:
    """Put a complete result where it belongs, the folder with the manifest last.

    The manifest says where the files are that do not stay in the folder. They are brought beside
    their places first: what a full disk or a folder that may not be written to can stop happens
    while the earlier result is still whole.

    Args:
        made: Folder with every file of the result, on the file system of the destination.
        job: Says what goes where.

    Raises:
        OSError: If it cannot.
    """
    moved = {e.name: Path(os.path.relpath(e.path, job.folder)).as_posix() for e in job.exports}
    manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    write_json({**manifest, ELSEWHERE: moved}, made / "manifest.json")
    places: dict[Path, Path] = {}
    own = made.parent.name.rpartition(".partial-")[2]
    try:
        for export in job.exports:
            export.path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(export.sidecar, indent=1) + "\n"
            for path in (export.path, _sidecar(export.path)):
                places[path] = path.with_name(f".{path.name}.partial-{own}")
            places[_sidecar(export.path)].write_text(text, encoding="utf-8")
            (made / export.name).replace(places[export.path])
    except BaseException:
        for draft in places.values():
            draft.unlink(missing_ok=True)
        raise
    # From here on the earlier result, if there is one, is no longer complete.
    if job.folder.is_dir():
        job.folder.rename(made.with_name("earlier"))
    for path, draft in places.items():
        draft.replace(path)
    for folder in sorted((made / e.name).parent for e in job.exports):
        if folder != made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    made.rename(job.folder)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name.split(".", 1)[0] + ".json")


def _failed(job: Job, code: int, reason: str, start: float) -> Outcome:
    seconds = time.perf_counter() - start
    return Outcome(job.id, "failed", code, job.without_folders(reason), seconds=seconds)
