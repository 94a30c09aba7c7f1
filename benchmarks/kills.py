"""Kills `infarct segment` and `infarct recompute` at random moments, and counts what they leave.

    python benchmarks/kills.py FOLDER [--kills 60] [--seed 0] [--model cfuzzy] [--dicom DICOM]

Each command is killed with SIGKILL at a moment drawn from its whole duration: a first run, one with
`--overwrite`, a correction, and with `--dicom` a run on that folder. Then the result must be absent
or complete, every file of it as the manifest lists it, and a correction that was made must still be
there. After the next run that is left alone, nothing may lie beside the result or in the temporary
folder.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from infarct.core import assets
from infarct.core.errors import InfarctError
from infarct.reporting.reader import AUDIT, FILES, list_files, read_stored


def infarct(*arguments: str | Path) -> list[str]:
    """Return the command line of a command."""
    return [sys.executable, "-m", "infarct", *map(str, arguments)]


def run(folder: Path, command: list[str], seconds: float | None = None) -> int:
    """Run a command, killed after some time if one is given; returns its exit code."""
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=silent, stderr=silent) as process:
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def left(folder: Path) -> list[Path]:
    """Return what lies where only the result should be."""
    beside = [path for path in (folder / "results").iterdir() if path.name != "out"]
    return [*beside, *(folder / "tmp").iterdir()]


def state(out: Path) -> str:
    """Return `absent`, `complete` or `corrected`, or what is wrong with a result."""
    if not out.exists():
        return "absent"
    try:
        stored = read_stored(out)
    except (InfarctError, OSError) as error:
        return f"PARTIAL: {error}"
    if stored.manifest.get(FILES) != list_files(out):
        return "PARTIAL: files differ from the manifest"
    return "corrected" if (out / AUDIT).is_file() else "complete"


FRESH = {"segment", "segment --dicom"}
"""Commands that need an empty place."""


@dataclass
class Toll:
    """What was found.

    Attributes:
        killed: How many were killed in time.
        littered: How many of those left something beside the result.
        partial: Results that were neither complete nor absent.
        lost: Earlier results that were gone.
        remained: What still lay there after the next run.
    """

    killed: int = 0
    littered: int = 0
    partial: list[str] = field(default_factory=list)
    lost: int = 0
    remained: list[Path] = field(default_factory=list)


def kill_once(
    folder: Path, kind: str, kinds: dict[str, list[str]], after: float, toll: Toll
) -> str:
    """Kill a command after some seconds, look, run another, look again; returns what was seen."""
    out = folder / "results" / "out"
    if kind in FRESH or state(out) == "corrected":
        shutil.rmtree(out, ignore_errors=True)
    if kind not in FRESH and not out.exists() and run(folder, kinds["segment"]):
        raise SystemExit("the run before the kill failed")
    before = state(out)
    toll.killed += run(folder, kinds[kind], after) != 0
    litter = len(left(folder))
    toll.littered += bool(litter)
    if out.exists() or before != "absent":
        # The next run; a result that was just being replaced comes back.
        run(folder, infarct("report", out))
    now = state(out)
    toll.lost += before != "absent" and now == "absent"
    if now.startswith("PARTIAL"):
        toll.partial.append(now)
    if now == "absent" and run(folder, kinds["segment"]):
        toll.partial.append("the next run failed")
    toll.remained += left(folder)
    return f"{kind}, {after:.1f} s, {before} -> {now}, {litter} left"


def main() -> None:
    """Kill and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="cfuzzy")
    parser.add_argument("--dicom", type=Path, help="folder of DICOM files")
    given = parser.parse_args()
    folder = given.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    out = folder / "results" / "out"
    for place in (out.parent, folder / "tmp"):
        place.mkdir(parents=True)
    how = ("--out", out, "--model", given.model)
    scan = ("--dwi", assets.path("demo/dwi"), "--b0", assets.path("demo/b0"), "--bvalue", "1000")
    mask = assets.path("demo/lesion")
    kinds = {
        "segment": infarct("segment", *scan, *how),
        "segment --overwrite": infarct("segment", *scan, *how, "--overwrite"),
        "recompute": infarct("recompute", out, "--mask", mask, "--by", "kills"),
    }
    if given.dicom:
        kinds["segment --dicom"] = infarct("segment", "--dicom", given.dicom.resolve(), *how)
    seconds = {}
    for kind, command in kinds.items():
        if kind in FRESH:
            shutil.rmtree(out, ignore_errors=True)
        start = time.perf_counter()
        if code := run(folder, command):
            raise SystemExit(f"{kind}: ended with {code} though nobody killed it")
        seconds[kind] = time.perf_counter() - start
        print(f"{kind}: {seconds[kind]:.1f} s when left alone", flush=True)
    rng, toll = random.Random(given.seed), Toll()
    for number in range(given.kills):
        kind = rng.choice(list(kinds))
        after = rng.uniform(0.0, 1.02 * seconds[kind])
        print(number + 1, kill_once(folder, kind, kinds, after, toll), flush=True)
    print(f"\n{'killed, of':44}{toll.killed}, {given.kills}")
    print(f"{'kills that left something beside':44}{toll.littered}")
    print(f"{'partial results':44}{len(toll.partial)} {toll.partial or ''}")
    print(f"{'earlier results lost':44}{toll.lost}")
    print(f"{'left after the next run':44}{len(toll.remained)} {toll.remained or ''}")


if __name__ == "__main__":
    main()
