"""What `infarct doctor` reports: the machine, the installation, and a self-test.

The report is meant to be pasted into a bug report, so it names no user, host, folder or scan.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from infarct.cli.demo_scan import demo_files, overlap_with_truth
from infarct.core import assets
from infarct.core.errors import InfarctError, SettingError
from infarct.core.machine import cores, memory_bytes
from infarct.inference import backends
from infarct.pipeline import RunRequest, run
from infarct.segmentation.models import MODELS_FOLDER

LEAST_DICE = 0.8
"""A working installation has a Dice of 0.9 on the bundled scan, whatever engine and processor."""

_DEVELOPMENT = {"dev", "docs"}
"""Extras that only developers need."""

_VALUES = (
    *(backends.ENGINE, backends.THREADS, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"),
    *("NO_COLOR", "TERM", "LANG", "SOURCE_DATE_EPOCH"),
)
"""Environment variables that affect a run."""

_PATHS = (MODELS_FOLDER, "INFARCT_LOG", "MPLCONFIGDIR", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")
"""The same, but their values are paths, which may identify people or patients."""

_PACKAGES = ("numpy", "scipy", "nibabel", "SimpleITK", "onnxruntime", "matplotlib")


def describe_machine() -> dict[str, Any]:
    """Return what a run may use of this machine.

    Returns:
        `system`, `python`, `cores`, `memory_gb` (None if unknown), and `free_disk_gb` of the folder
        for temporary files and of the current folder.
    """
    memory = memory_bytes()
    folders = {"temporary files": Path(tempfile.gettempdir()), "current folder": Path()}
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "virtual_environment": sys.prefix != sys.base_prefix,
        "cores": cores(),
        "memory_gb": round(memory / 1e9, 1) if memory else None,
        "free_disk_gb": {
            name: round(shutil.disk_usage(folder).free / 1e9, 1) for name, folder in folders.items()
        },
    }


def describe_software() -> dict[str, Any]:
    """Return versions, the engine in use, extras, and environment variables that matter.

    Returns:
        `infarct` (version), `packages` (versions by name), `engine` (its name, or the problem),
        `extras` (by name: `installed`, the `missing` packages and the `command` that installs
        them), and `variables` (those that are set).
    """
    return {
        "infarct": metadata.version("infarct"),
        "packages": {name: _version_of(name) for name in _PACKAGES},
        "engine": _engine(),
        "extras": _extras(metadata.requires("infarct") or []),
        "variables": _variables(os.environ),
    }


def verify_files() -> dict[str, Any]:
    """Verify the checksums of the bundled files, networks included.

    Returns:
        `intact` and `left_out` (numbers of files) and `damaged` (their names).
    """
    found = assets.verify()
    return {"intact": found.intact, "damaged": list(found.damaged), "left_out": found.left_out}


def run_self_test(model: str) -> dict[str, Any]:
    """Segment the bundled synthetic scan without writing anything, and compare with the truth.

    Args:
        model: Name of the method.

    Returns:
        `passed`, `seconds`, `model`, and either `dice` and `engine`, or `error`.
    """
    start = time.monotonic()
    outcome: dict[str, Any]
    try:
        result = run(RunRequest(demo_files(), model=model))
    except (InfarctError, ImportError, OSError, RuntimeError) as error:
        outcome = {"passed": False, "error": anonymous(f"{type(error).__name__}: {error}")}
    else:
        dice = overlap_with_truth(result).dice
        engine = ", ".join(result.engine.values())
        outcome = {"passed": dice >= LEAST_DICE, "dice": round(dice, 3), "engine": engine}
    return {"model": model, "seconds": round(time.monotonic() - start, 1), **outcome}


def anonymous(text: str) -> str:
    """Shorten paths to the last name, and replace the names of user and host."""
    text = text.replace(str(Path.home()), "~") if Path.home() != Path(os.sep) else text
    shortened = re.sub(r"(?:[A-Za-z]:)?(?:[/\\][^/\\\s:;,'\")]+)+(?=[/\\])", "...", text)
    for name, label in ((_user(), "USER"), (platform.node(), "HOST")):
        if name:
            shortened = re.sub(rf"\b{re.escape(name)}\b", label, shortened)
    return shortened


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run under an unknown user
        return ""


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _engine() -> str:
    try:
        return backends.check_settings()
    except InfarctError as error:
        kind = "invalid setting" if isinstance(error, SettingError) else "not available"
        return f"{kind}: {anonymous(str(error))}"


def _extras(requirements: list[str]) -> dict[str, dict[str, Any]]:
    """Return which extras are installed, from the requirements of the package.

    Args:
        requirements: As in the metadata of the package, such as `pydicom>=3; extra == 'dicom'`.
    """
    wanted: dict[str, list[str]] = {}
    for requirement in requirements:
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", requirement)
        package = re.match(r"[A-Za-z0-9._-]+", requirement)
        if extra and package and extra[1] not in _DEVELOPMENT:
            wanted.setdefault(extra[1], []).append(package[0])
    report: dict[str, dict[str, Any]] = {}
    for extra_name, packages in sorted(wanted.items()):
        missing = [name for name in packages if _version_of(name) is None]
        report[extra_name] = {"installed": not missing, "missing": missing}
        if missing:
            report[extra_name]["command"] = f"pip install '.[{extra_name}]'"
    return report


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    values = {name: anonymous(environment[name]) for name in _VALUES if name in environment}
    paths = {name: _kind_of(environment[name]) for name in _PATHS if name in environment}
    return values | paths


def _kind_of(value: str) -> str:
    """Describe the path in a variable without naming it."""
    if not value:
        return "set, empty"
    if os.pathsep in value:
        return "set, several paths"
    path = Path(value)
    kind = "a folder" if path.is_dir() else "a file" if path.is_file() else "does not exist"
    return f"set, {kind}"
