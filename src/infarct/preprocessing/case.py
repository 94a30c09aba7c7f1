"""One scan and its files."""

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
    """The files of one scan.

    Attributes:
        dwi: Diffusion-weighted image, or a 4D series with a `.bval` file of the same name beside;
            that of a single image is read too, if `bvalue` is None.
        b0: Image without diffusion weighting; may be missing when `adc` is there or `dwi` is 4D.
        adc: ADC map in any usual unit; computed when missing.
        bvalue: s/mm^2; of a series with several, which to take. None is 1000, or the nearest to it
            that the series has.
        brain: Brain mask drawn or made elsewhere; found here when missing.
        bval: The b-values of a 4D series, if they are not in the `.bval` file beside it.
        b0_below: s/mm^2; volumes of a series with a lower b-value serve as b0.
    """

    dwi: Path
    b0: Path | None = None
    adc: Path | None = None
    bvalue: float | None = None
    brain: Path | None = None
    bval: Path | None = None
    b0_below: float = B0_BELOW

    def paths(self) -> dict[str, Path]:
        """Return the files that were given, by role; of an image in two files also the other."""
        given = {"dwi": self.dwi, "b0": self.b0, "adc": self.adc, "brain": self.brain}
        found = {}
        for role, path in given.items():
            if path is not None:
                first, *others = {Path(path): None, **dict.fromkeys(files_of(Path(path)))}
                found[role] = first
                found |= {f"{role}_{other.suffix.lstrip('.').lower()}": other for other in others}
        return found

    def bval_path(self) -> Path | None:
        """Return the file of the b-values, given or found beside the DWI; None if there is none."""
        return self.bval or bvalue_file(Path(self.dwi))


@dataclass(frozen=True, eq=False)
class Case:
    """One scan, complete and checked: every image on the grid of the DWI.

    Attributes:
        dwi: (X, Y, Z) diffusion-weighted signal, not negative; carries the header of the file.
        b0: (X, Y, Z) signal without diffusion weighting, not negative.
        adc: (X, Y, Z) mm^2/s.
        bvalue: s/mm^2.
        brain: (X, Y, Z) bool.
        brain_method: Where that came from; a network may replace a threshold outline later.
        files: Where it came from.
        findings: What the reader should know.
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
        """Voxel axis along which the slices are stacked: the one closest to head-foot."""
        return self.dwi.slice_axis
