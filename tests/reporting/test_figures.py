import io
from dataclasses import replace

import numpy as np
from matplotlib.image import imread

from infarct.reporting.figures import slice_figure, to_png


def test_contour_is_drawn_on_the_side_of_the_lesion(stored) -> None:
    figure = slice_figure(stored)
    drawn = [panel for panel in figure.axes if panel.collections]
    assert drawn
    for panel in drawn:
        x = np.concatenate(
            [path.vertices[:, 0] for c in panel.collections for path in c.get_paths()]
        )
        assert x.mean() > np.mean(panel.get_xlim())  # the left lesion, on the viewer's right


def test_figure_is_reproducible_and_shows_the_contour(stored) -> None:
    first, second = to_png(slice_figure(stored)), to_png(slice_figure(stored))
    assert first == second
    pixels = imread(io.BytesIO(first))
    orange = (pixels[..., 0] > 0.8) & (pixels[..., 2] < 0.2)
    assert orange.sum() > 200


def test_figure_without_lesion_shows_the_whole_brain(stored) -> None:
    nothing = stored.lesion.like(np.zeros_like(stored.lesion.data))
    figure = slice_figure(replace(stored, lesion=nothing))
    assert len([a for a in figure.axes if a.images]) >= 4 * 10
    assert not any(a.collections for a in figure.axes)


def test_figure_names_the_case_and_says_that_it_was_corrected(stored) -> None:
    def title(case):
        return " ".join(text.get_text() for text in slice_figure(case).texts)

    assert "case" in title(stored)
    assert "dwi.nii.gz" in title(stored)
    assert "corrected" not in title(stored)
    corrected = replace(stored, summary={**stored.summary, "corrections": [{"by": "AB"}]})
    assert "mask corrected manually" in title(corrected)
