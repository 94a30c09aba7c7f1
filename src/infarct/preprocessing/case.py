"""A scan and its input files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from infarct.core.bvalues import bvalue_file
from infarct.core.diffusion import B0_BELOW, Mask
from infarct.core.findings import Finding
from infarct.core.nifti import Volume, files_of
from infarct.preprocessing.skull_strip import BrainMethod


@dataclass(frozen=True)
class CaseFiles:
    """The input files of one scan.

    Attributes:
        dwi: Diffusion-weighted image, or a 4D series with a `.bval` file of the same name in the
            same folder. The `.bval` file of a single image is also read if `bvalue` is None.
        b0: Image without diffusion weighting; optional if `adc` is given or `dwi` is 4D.
        adc: ADC map in any common unit; computed if missing.
        bvalue: b-value in s/mm^2; selects the shell of a multi-shell series. If None, 1000 or, for
            a series, the available b-value nearest to 1000.
        brain: Brain mask from another source; computed if missing.
        bval: File of b-values, if it is not the `.bval` file next to the DWI.
        b0_below: s/mm^2; volumes of a series with a lower b-value are averaged to the b0.
        b0_bvalue: s/mm^2; b-value of the image given as `b0`.
    """

    dwi: Path
    b0: Path | None = None
    adc: Path | None = None
    bvalue: float | None = None
    brain: Path | None = None
    bval: Path | None = None
    b0_below: float = B0_BELOW
    b0_bvalue: float = 0.0

    def paths(self) -> dict[str, Path]:
        """Return the given files by role, including both files of a two-file image."""
        given = {"dwi": self.dwi, "b0": self.b0, "adc": self.adc, "brain": self.brain}
        found = {}
        for role, path in given.items():
            if path is not None:
                first, *others = {Path(path): None, **dict.fromkeys(files_of(Path(path)))}
                found[role] = first
                found |= {f"{role}_{other.suffix.lstrip('.').lower()}": other for other in others}
        return found

    def bval_path(self) -> Path | None:
        """Return the b-value file, given or found next to the DWI; None if there is none."""
        return self.bval or bvalue_file(Path(self.dwi))


@dataclass(frozen=True, eq=False)
class Case:
    """A complete and checked scan, with every image on the grid of the DWI.

    Attributes:
        dwi: (X, Y, Z) diffusion-weighted signal, not negative; carries the header of the file.
        b0: (X, Y, Z) signal without diffusion weighting, not negative.
        adc: (X, Y, Z) mm^2/s.
        bvalue: s/mm^2.
        brain: (X, Y, Z) bool.
        brain_method: How the brain mask was obtained; a network may later replace a threshold mask.
        files: The input files.
        findings: Findings of the input checks.
    """

    dwi: Volume
    b0: Volume
    adc: Volume
    bvalue: float
    brain: Mask
    brain_method: BrainMethod
    files: CaseFiles
    findings: tuple[Finding, ...] = field(default=())

    @property
    def slice_axis(self) -> int:
        """Voxel axis along which slices are stacked: the one closest to head-foot."""
        return self.dwi.slice_axis
