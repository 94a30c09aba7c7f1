"""One case in a worker process: skipped if it is done, else made and put in its place at once."""

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
from infarct.core.input_files import check_file
from infarct.core.nifti import read
from infarct.core.serialization import as_json, write_json
from infarct.inference.network import load_network
from infarct.pipeline import segment_case
from infarct.preprocessing.load import open_case
from infarct.reporting.reader import (
    ELSEWHERE,
    OUTLINE,
    THUMBNAIL,
    exported,
    is_result,
    manual_work,
    settle,
)
from infarct.reporting.writer import calibration_record, check_destination, relisted, write_results
from infarct.segmentation.models import BRAIN_NETWORK, get_model

_PATIENCE_SECONDS = 3600.0
"""How long a case waits for another process that is working on it, as after a lost connection."""

_DECIDES = ("infarct", "model", "networks", "calibration", "engine", "inputs", "assets", "cohort")
"""Keys of the manifest that must be those of the run for a case to be done."""

_MOST_NAMES = 10


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
            fresh = _make(job, settings)
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
        manifest = _manifest(job.folder)
        json.loads(job.output("summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    made = {key: manifest.get(key) for key in _DECIDES}
    there = all(export.path.is_file() for export in job.exports) and not _edited(job)
    # Killed before they were moved out: older ones may be at their places.
    left = any((job.folder / export.name).exists() for export in job.exports)
    return there and not left and not job.problem and made == _recipe(job, settings)


def clean(jobs: Sequence[Job]) -> None:
    """Remove what killed workers left half-written of these cases; live ones are not disturbed."""
    clear_up(job.folder for job in jobs)


def _recipe(job: Job, settings: Settings) -> dict[str, Any]:
    """Return what decides a result, as it reads back from `manifest.json`.

    Raises:
        InputFileError: If an input is not there.
    """

    def seen(path: Path) -> dict[str, str]:
        check_file(path, "an image")
        return {"file": path.name, "sha256": assets.sha256(path)}

    bval = job.files.bval_path()
    method = get_model(settings.model)
    content = {
        "infarct": settings.infarct,
        "model": settings.model,
        # A user's own networks and calibrations are no assets, and change under the same name.
        "networks": dict(method.networks_sha256),
        "calibration": calibration_record(method),
        # Each rounds differently; a cohort must not mix them.
        "engine": load_network(BRAIN_NETWORK).engine.record(),
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


def _make(job: Job, settings: Settings) -> bool:
    """Make a case; returns False if another process made it while this one waited."""
    if job.problem:
        raise InputFileError(job.problem)
    if version("infarct") != settings.infarct:
        raise AssetError(
            f"this worker has infarct {version('infarct')}, the run was started with "
            f"{settings.infarct}; install the same version everywhere"
        )
    inputs = list(job.files.paths().values())
    # After a lost connection two workers may be given the same case.
    with reserved(job.folder, _PATIENCE_SECONDS):
        settle(job.folder)
        if is_done(job, settings):
            return False
        check_destination(job.folder, inputs, overwrite=True, overwrite_corrected=True)
        _refuse_worked_on(job.folder, job, settings)
        _refuse_foreign_exports(job, settings)
        recipe = _recipe(job, settings)
        result = segment_case(open_case(job.files), settings.model)
        with workplace(job.folder) as place:
            made = write_results(
                result, place / "result", command=settings.command, add=_add_thumbnail
            )
            manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
            _refuse_changed(manifest, recipe)
            write_json({**manifest, **recipe}, made / "manifest.json")
            # Again: somebody may have worked on it meanwhile.
            publish(made, job, lambda old: _refuse_worked_on(old, job, settings))
    return True


def _add_thumbnail(folder: Path) -> None:
    picture = thumbnail(read(folder / "mni/dwi.nii.gz"), read(folder / "mni/lesion_mask.nii.gz"))
    (folder / THUMBNAIL).write_bytes(picture)


def _refuse_changed(manifest: dict[str, Any], recipe: dict[str, Any]) -> None:
    """Refuse to certify a result whose inputs or weights were replaced while it was made."""
    # The manifest also lists the .bval, which the recipe has apart.
    inputs = {role: manifest["inputs"].get(role) for role in recipe["inputs"]}
    now = {**manifest, "inputs": inputs}
    keys = ("networks", "calibration", "engine", "inputs", "assets")
    changed = [key for key in keys if now.get(key) != recipe[key]]
    if changed:
        # No fault of the scan: the next run tries it again without being asked.
        raise OutputError(
            f"{' and '.join(changed)} changed while the case was being processed; run it again"
        )


def _refuse_worked_on(folder: Path, job: Job, settings: Settings) -> None:
    """Keep a result that somebody made or worked on: only they can say that it may go.

    Args:
        folder: Where it lies; it may have been moved aside.
        job: The case.
        settings: Of the run.
    """
    if not is_result(folder):
        return
    if "cohort" not in _manifest(folder):
        raise OutputError(
            f"{job.folder} holds a result that was not made by a cohort; nothing was replaced: "
            "move it elsewhere, or give the cohort another folder"
        )
    work = [] if settings.overwrite_corrected else manual_work(folder)
    if work:
        more = f" and {len(work) - _MOST_NAMES} more" if len(work) > _MOST_NAMES else ""
        raise OutputError(
            f"{job.folder} holds manual work, {', '.join(work[:_MOST_NAMES])}{more}, and its "
            "inputs, b-value, version, method or engine are not those of this run, or a file of "
            "it is missing or edited; nothing was replaced: move it elsewhere, or add "
            "--overwrite-corrected to delete it"
        )


def _refuse_foreign_exports(job: Job, settings: Settings) -> None:
    """Keep files at the places of exports that no result of this case put there.

    They may be corrected masks whose folder was moved away.
    """
    written = exported(job.folder) if is_result(job.folder) else []
    known = {path.resolve() for path in written}
    foreign = [e.path for e in job.exports if e.path.exists() and e.path.resolve() not in known]
    if foreign and not settings.overwrite_corrected:
        names = ", ".join(path.name for path in foreign[:_MOST_NAMES])
        raise OutputError(
            f"{names} already exist, and {job.folder} does not say that infarct wrote them; "
            "nothing was replaced: move them elsewhere, or add --overwrite-corrected to delete them"
        )


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    if not isinstance(manifest, dict):
        raise ValueError("the manifest is not one of infarct")
    return manifest


def _edited(job: Job) -> bool:
    """Tell whether there is an outline that is not the one of the manifest."""
    try:
        written = _manifest(job.folder).get("outputs", {}).get(OUTLINE)
        return bool(written) and assets.sha256(job.output(OUTLINE)) != written
    except (OSError, ValueError):
        return False


def publish(made: Path, job: Job, check: Callable[[Path], None] = lambda _: None) -> None:
    """Put a complete result where it belongs.

    The folder gets its name at once, with every file in it. Then the files that belong elsewhere
    are moved there; the manifest says where, so that the next run can finish what a killed one had
    begun.

    Args:
        made: Folder with every file of the result, on the file system of the destination.
        job: Says what goes where; its folder is reserved.
        check: Called with an earlier result that is about to be replaced; raises to keep it.

    Raises:
        OSError: If it cannot.
    """
    places: dict[str, Path] = {}
    for export in job.exports:
        if not (made / export.name).is_file():
            raise FileNotFoundError(f"the result holds no {export.name}")
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
