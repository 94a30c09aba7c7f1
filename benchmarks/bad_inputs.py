"""Try bad inputs on the command line and print what each got: exit code and message.

    python benchmarks/bad_inputs.py

All of them are made from the synthetic scan that ships with the package.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from infarct.core import assets

DWI, B0 = assets.path("demo/dwi"), assets.path("demo/b0")


def images(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield a name and the arguments of each try."""
    dwi, b0 = nib.load(DWI), nib.load(B0)
    signal = dwi.get_fdata()
    head = signal > 0.3 * np.percentile(signal, 95)

    def save(name: str, data: np.ndarray, affine: np.ndarray | None = None) -> str:
        path = folder / f"{name}.nii.gz"
        nib.Nifti1Image(data, dwi.affine if affine is None else affine).to_filename(path)
        return str(path)

    def raw(name: str, content: bytes) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    with_b0 = ["--b0", str(B0)]
    yield "good", ["--dwi", str(DWI), *with_b0]
    yield "missing file", ["--dwi", str(folder / "nothing.nii.gz"), *with_b0]
    yield "truncated", ["--dwi", raw("cut.nii.gz", DWI.read_bytes()[:60_000]), *with_b0]
    yield "text", ["--dwi", raw("text.nii", b"patient scan, see attachment"), *with_b0]
    yield "empty file", ["--dwi", raw("empty.nii.gz", b""), *with_b0]
    yield "a folder", ["--dwi", str(folder), *with_b0]
    yield "all NaN", ["--dwi", save("nan", np.full_like(signal, np.nan)), *with_b0]
    yield "constant", ["--dwi", save("constant", np.full_like(signal, 9)), *with_b0]
    yield "2D", ["--dwi", save("flat", signal[:, :, 12]), *with_b0]
    yield "two slices", ["--dwi", save("two", signal[:, :, 12:14]), *with_b0]
    yield "4D without bval", ["--dwi", save("series", np.stack([signal] * 3, -1)), *with_b0]
    yield "b0 of wrong shape", ["--dwi", str(DWI), "--b0", save("b0cut", b0.get_fdata()[:9, :9])]
    away = b0.affine.copy()
    away[:3, 3] += 500
    yield "b0 elsewhere", ["--dwi", str(DWI), "--b0", save("away", b0.get_fdata(), away)]
    metres = dwi.affine.copy()
    metres[:3] /= 1000
    yield "header in metres", ["--dwi", save("metres", signal, metres), *with_b0]
    yield "CT", ["--dwi", save("ct", np.where(head, 35.0, -1000.0)), *with_b0]
    water = b0.get_fdata() * np.exp(-1000 * 2.1e-3)
    yield "phantom (water)", ["--dwi", save("water", water), *with_b0]
    yield "noise", ["--dwi", save("noise", np.random.default_rng(0).random(signal.shape)), *with_b0]
    yield "swapped", ["--dwi", str(B0), "--b0", str(DWI)]
    adc = np.log(np.maximum(b0.get_fdata(), 1) / np.maximum(signal, 1))
    swapped = ["--dwi", str(B0), "--b0", str(DWI)]
    yield "swapped, with ADC", [*swapped, "--adc", save("adc", adc)]
    yield "DWI alone", ["--dwi", str(DWI)]
    yield "b = 0", ["--dwi", str(DWI), *with_b0, "--bvalue", "0"]
    yield "wrong b (3000)", ["--dwi", str(DWI), *with_b0, "--bvalue", "3000"]
    yield "ADC that is none", ["--dwi", str(DWI), *with_b0, "--adc", save("mask", head * 1.0)]
    yield "empty brain mask", ["--dwi", str(DWI), *with_b0, "--brain", save("none", head * 0.0)]
    yield "unknown model", ["--dwi", str(DWI), *with_b0, "--model", "magic"]


def main() -> None:
    """Print the table."""
    print(f"{'input':20} {'exit':>4} {'output':>7}  first line of the message")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, arguments in images(folder):
            out = folder / "results" / name.replace(" ", "-")
            command = [sys.executable, "-m", "infarct", "segment", *arguments, "--out", str(out)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            said = done.stderr if done.returncode else done.stdout
            lines = [line for line in said.replace(scratch, "DIR").splitlines() if line.strip()]
            there = "whole" if (out / "report.html").is_file() else "none"
            assert there == "whole" or not out.exists(), f"{name} left something behind"
            print(f"{name:20} {done.returncode:4} {there:>7}  {lines[0][:150] if lines else ''}")
            for line in lines[1:]:
                if line.startswith("check:"):
                    print(f"{'':34}{line[:150]}")


if __name__ == "__main__":
    main()
