"""Processes one case in a worker: skips it if complete, otherwise writes its result atomically."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from infarct.cohort.figures import thumbnail
from infarct.cohort.jobs import Job, Outcome, Settings
from infarct.core import assets
from infarct.core.atomic_write import clear_up, move_out, put_in_place, reserved, workplace
from infarct.core.errors import (
    AssetError,
    InfarctError,
    InputFileError,
    MemoryShortageError,
    OutputError,
)
from infarct.core.geometry import MNI_GRID
from infarct.core.input_files import check_file
from infarct.core.nifti import Volume, read
from infarct.core.serialization import as_json, write_json
from infarct.core.units import format_names
from infarct.inference.network import load_network
from infarct.pipeline import RunRequest, run
from infarct.reporting.reader import (
    ELSEWHERE,
    OUTLINE,
    THUMBNAIL,
    exported,
    is_result,
    manual_work,
    settle,
)
from infarct.reporting.writer import calibration_record, check_destination, relisted
from infarct.segmentation.models import BRAIN_NETWORK, get_model
from infarct.segmentation.result import Segmentation

_PATIENCE_SECONDS = 3600.0
"""How long to wait for another process that works on the same case (after a lost connection)."""

_DECIDES = ("infarct", "model", "networks", "calibration", "engine", "inputs", "assets", "cohort")
"""Manifest keys that must match the run for a case to count as complete."""


def process(job: Job, settings: Settings) -> Outcome:
    """Process one case; any failure is returned as its outcome rather than raised.

    Args:
        job: The case.
        settings: Settings of the run.
    """
    start = time.perf_counter()
    try:
        fresh = not is_done(job, settings)
        if fresh:
            fresh = _make(job, settings)
        summary = json.loads(job.output("summary.json").read_text(encoding="utf-8"))
    except InfarctError as error:
        return _failed(job, error.exit_code, str(error), start)
    except MemoryError:
        shortage = MemoryShortageError()
        return _failed(job, shortage.exit_code, str(shortage), start)
    except Exception as error:  # an internal or library error must not stop the other cases
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
    """Return whether a complete result of the same inputs, version and settings exists."""
    try:
        manifest = _manifest(job.folder)
        json.loads(job.output("summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    made = {key: manifest.get(key) for key in _DECIDES}
    there = all(export.path.is_file() for export in job.exports) and not _edited(job)
    # A run killed before moving these out may have left older files at their destinations.
    left = any((job.folder / export.name).exists() for export in job.exports)
    return there and not left and not job.problem and made == _recipe(job, settings)


def clean(jobs: Sequence[Job]) -> None:
    """Remove incomplete files of killed workers; those of running workers are kept."""
    clear_up(job.folder for job in jobs)


def _recipe(job: Job, settings: Settings) -> dict[str, Any]:
    """Return everything that determines a result, as stored in `manifest.json`.

    Raises:
        InputFileError: If an input does not exist.
    """

    def seen(path: Path) -> dict[str, str]:
        check_file(path, "an image")
        return {"file": path.name, "sha256": assets.sha256(path)}

    bval = job.files.bval_path()
    method = get_model(settings.model)
    content = {
        "infarct": settings.infarct,
        "model": settings.model,
        # User-provided networks and calibrations are not assets and may change under one name.
        "networks": dict(method.networks_sha256),
        "calibration": calibration_record(method),
        # Engines round differently and must not be mixed within a cohort.
        "engine": load_network(BRAIN_NETWORK).engine.record(),
        "inputs": {role: seen(path) for role, path in job.files.paths().items()},
        "assets": {name: asset.sha256 for name, asset in assets.index().items()},
        "cohort": {
            "id": job.id,
            "bvalue": job.files.bvalue,
            "b0_below": job.files.b0_below,
            "b0_bvalue": job.files.b0_bvalue,
            "bval": assets.sha256(bval) if bval else None,
        },
    }
    recipe: dict[str, Any] = json.loads(as_json(content))
    return recipe


def _make(job: Job, settings: Settings) -> bool:
    """Run a case; return False if another process completed it while this one waited."""
    if job.problem:
        raise InputFileError(job.problem)
    if version("infarct") != settings.infarct:
        raise AssetError(
            f"this worker has infarct {version('infarct')}, but the run was started with "
            f"{settings.infarct}; install the same version everywhere"
        )
    inputs = list(job.files.paths().values())
    # After a lost connection, two workers may receive the same case.
    with reserved(job.folder, _PATIENCE_SECONDS):
        settle(job.folder)
        if is_done(job, settings):
            return False
        check_destination(job.folder, inputs, overwrite=True, overwrite_corrected=True)
        _refuse_worked_on(job.folder, job, settings)
        _refuse_foreign_exports(job, settings)
        recipe = _recipe(job, settings)
        with workplace(job.folder) as place:
            made = place / "result"
            request = RunRequest(
                job.files,
                made,
                settings.model,
                command=settings.command,
                label=job.label,
                keep_mni=settings.keep_mni,
                add=_add_thumbnail,
            )
            run(request)
            manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
            _refuse_changed(manifest, recipe)
            write_json({**manifest, **recipe}, made / "manifest.json")
            # Check again: the earlier result may have been edited in the meantime.
            publish(made, job, lambda old: _refuse_worked_on(old, job, settings))
    return True


def _add_thumbnail(result: Segmentation, folder: Path) -> None:
    dwi = Volume(result.prepared.dwi, MNI_GRID.affine)
    picture = thumbnail(dwi, read(folder / "mni/lesion_mask.nii.gz"))
    (folder / THUMBNAIL).write_bytes(picture)


def _refuse_changed(manifest: dict[str, Any], recipe: dict[str, Any]) -> None:
    """Reject a result whose inputs or weights were replaced while it was computed."""
    # The manifest also lists the .bval, which the recipe stores separately.
    inputs = {role: manifest["inputs"].get(role) for role in recipe["inputs"]}
    now = {**manifest, "inputs": inputs}
    keys = ("networks", "calibration", "engine", "inputs", "assets")
    changed = [key for key in keys if now.get(key) != recipe[key]]
    if changed:
        # Unrelated to the scan: the next run processes it again without --retry-failed.
        raise OutputError(
            f"{' and '.join(changed)} changed while the case was being processed; run it again"
        )


def _refuse_worked_on(folder: Path, job: Job, settings: Settings) -> None:
    """Refuse to replace a result that was edited or not made by a cohort.

    Args:
        folder: Folder of the result; it may have been moved aside.
        job: The case.
        settings: Settings of the run.
    """
    if not is_result(folder):
        return
    if "cohort" not in _manifest(folder):
        raise OutputError(
            f"{job.folder} contains a result that was not made by a cohort; nothing was replaced: "
            "move it elsewhere, or choose another output folder"
        )
    work = [] if settings.overwrite_corrected else manual_work(folder)
    if work:
        raise OutputError(
            f"{job.folder} contains manual edits, {format_names(work)}, and its "
            "inputs, b-value, version, model or engine differ from this run, or one of its files "
            "is missing or edited; nothing was replaced: move it elsewhere, or add "
            "--overwrite-corrected to delete it"
        )


def _refuse_foreign_exports(job: Job, settings: Settings) -> None:
    """Refuse to replace files at export paths that were not written by this case.

    They may be corrected masks whose result folder was moved away.
    """
    written = exported(job.folder) if is_result(job.folder) else []
    known = {path.resolve() for path in written}
    foreign = [e.path for e in job.exports if e.path.exists() and e.path.resolve() not in known]
    if foreign and not settings.overwrite_corrected:
        names = format_names([path.name for path in foreign])
        raise OutputError(
            f"{names} already exist, but {job.folder} does not list them as written by infarct; "
            "nothing was replaced: move them elsewhere, or add --overwrite-corrected to delete them"
        )


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    if not isinstance(manifest, dict):
        raise ValueError("manifest.json was not written by infarct")
    return manifest


def _edited(job: Job) -> bool:
    """Return whether the lesion mask differs from the one listed in the manifest."""
    try:
        written = _manifest(job.folder).get("outputs", {}).get(OUTLINE)
        return bool(written) and assets.sha256(job.output(OUTLINE)) != written
    except (OSError, ValueError):
        return False


def publish(made: Path, job: Job, check: Callable[[Path], None] = lambda _: None) -> None:
    """Move a complete result to its destination.

    The folder is renamed with all files in it. Then the exported files are moved to their
    destinations, which the manifest lists, so that the next run can complete an interrupted move.

    Args:
        made: Folder with all files of the result, on the file system of the destination.
        job: Defines the destinations; its folder is reserved.
        check: Called with an earlier result that is about to be replaced; raises to keep it.

    Raises:
        OSError: If the files cannot be moved.
    """
    places: dict[str, Path] = {}
    for export in job.exports:
        if not (made / export.name).is_file():
            raise FileNotFoundError(f"the result has no {export.name}")
        export.path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(export.path.parent, os.W_OK | os.X_OK):
            raise PermissionError(f"{export.path.parent} is not writable")
        text = json.dumps(export.sidecar, indent=1) + "\n"
        (made / f"{export.name}.json").write_text(text, encoding="utf-8")
        places |= {export.name: export.path, f"{export.name}.json": _sidecar(export.path)}
    relative = {n: Path(os.path.relpath(p, job.folder)).as_posix() for n, p in places.items()}
    manifest = relisted(_manifest(made), made, [f"{export.name}.json" for export in job.exports])
    write_json({**manifest, ELSEWHERE: relative}, made / "manifest.json")
    put_in_place(made, job.folder, check)
    move_out(job.folder, places)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name.split(".", 1)[0] + ".json")


def _failed(job: Job, code: int, reason: str, start: float) -> Outcome:
    seconds = time.perf_counter() - start
    return Outcome(job.id, "failed", code, job.without_folders(reason), seconds=seconds)
