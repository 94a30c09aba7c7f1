"""`infarct.segment`: the command line's main job as one Python call."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from infarct.atlas import Atlas
from infarct.case import CaseFiles, open_case
from infarct.pipeline import Segmentation, segment_case
from infarct.report import destination, write_results
from infarct.segmenters import DEFAULT, get_segmenter

File = str | PathLike[str]


def segment(
    dwi: File,
    b0: File | None = None,
    adc: File | None = None,
    *,
    bvalue: float | None = None,
    brain: File | None = None,
    model: str = DEFAULT,
    territories: Atlas | None = None,
    out: File | None = None,
) -> Segmentation:
    """Outline and measure the acute ischemic lesions of one scan.

    Args:
        dwi: Diffusion-weighted NIfTI image, or a 4D series with its `.bval` file beside.
        b0: Image without diffusion weighting; may be left out with `adc` or a series.
        adc: ADC map in any usual unit; computed from `b0` when left out.
        bvalue: s/mm^2, 1000 when left out; of a series, the shell nearest to it is taken.
        brain: Brain mask; found when left out.
        model: Name of the method.
        territories: Atlas for the table of territories, see `infarct.atlas.read_atlas`; the one
            that ships when left out.
        out: Folder to write everything into; nothing is written when left out.

    Returns:
        Masks, maps and numbers in the scan's own space.

    Raises:
        InfarctError: Its subclasses say what went wrong and what to do.
    """

    def path(file: File | None) -> Path | None:
        return None if file is None else Path(file)

    files = CaseFiles(Path(dwi), path(b0), path(adc), bvalue, path(brain))
    get_segmenter(model)
    if out is None:
        return segment_case(open_case(files), model, territories=territories)
    with destination(Path(out), files.paths().values()):
        result = segment_case(open_case(files), model, territories=territories)
        write_results(result, Path(out))
    return result
