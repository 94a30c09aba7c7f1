"""Bundles NiiVue for the page: run when the package is built, and by `make web`.

This file imports nothing of infarct, because the build runs it before infarct is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FRONTEND = Path(__file__).parent / "frontend"
TARGET = Path(__file__).parent / "static" / "niivue.js"

_ENTRY = "entry.js"


class BundleError(RuntimeError):
    """NiiVue could not be bundled."""


def bundle(target: Path = TARGET) -> Path:
    """Download NiiVue from npm, verify it against `deno.lock`, and bundle it into one file.

    Args:
        target: File to write, complete or not at all.

    Raises:
        BundleError: If deno is not installed, or npm cannot be reached.
    """
    executable = _find_deno()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".bundle-") as folder:
        draft = Path(folder) / "niivue.js"
        command = [executable, "bundle", "--platform", "browser", "--minify"]
        done = subprocess.run(
            [*command, "--frozen", "--output", str(draft), _ENTRY],
            cwd=FRONTEND,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not draft.is_file():
            raise BundleError(f"deno bundle failed:\n{done.stderr.strip()[-2000:]}")
        draft.chmod(0o644)
        draft.replace(target)
    return target


def _find_deno() -> str:
    try:
        import deno  # noqa: PLC0415 - installed for the build only
    except ImportError as error:
        raise BundleError("the package deno is not installed: pip install deno") from error
    try:
        return str(deno.find_deno_bin())
    except FileNotFoundError as error:
        # An isolated build has its own folder of programs, which only PATH names.
        found = shutil.which("deno")
        if found is None:
            raise BundleError(f"the program deno was not found in {error} or PATH") from error
        return found


if __name__ == "__main__":
    try:
        made = bundle()
    except BundleError as error:
        sys.exit(f"NiiVue was not bundled: {error}")
    sys.stdout.write(f"{made} ({made.stat().st_size / 1e6:.1f} MB)\n")
