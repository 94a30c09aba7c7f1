import io
from dataclasses import replace

import numpy as np
import pytest

from infarct.reporting.figures import figure_title, slice_figure

PANEL = 180
"""Width of a panel with its gap, pixels."""


def contour_pixels(stored) -> np.ndarray:
    """Return where the contour is drawn, as (row, column)."""
    pixels = np.asarray(slice_figure(stored)).astype(int)
    return np.argwhere((pixels[..., 0] > 200) & (pixels[..., 2] < 60))


def test_contour_is_drawn_in_its_panel_on_the_side_of_the_lesion(stored) -> None:
    drawn = contour_pixels(stored)
    assert len(drawn) > 200
    columns = drawn[:, 1]
    assert set((columns // PANEL) % 4) == {3}
    assert np.mean(columns % PANEL) > PANEL / 2  # the left lesion, on the viewer's right


def test_contour_surrounds_the_brightest_tissue(stored) -> None:
    lesion = stored.lesion.data
    bright = stored.dwi.like(np.where(lesion, 1000.0, 0.0).astype(np.float32))
    pixels = np.asarray(slice_figure(replace(stored, dwi=bright))).astype(int)
    lesion_panel = pixels[60:, 3 * PANEL : 4 * PANEL - 4]
    dwi_panel = pixels[60:, : PANEL - 4, 0]
    rows, columns = np.nonzero((lesion_panel[..., 0] > 200) & (lesion_panel[..., 2] < 60))
    inside = np.argwhere(dwi_panel > 250)
    # Labels at the rim of the first panel are bright, too.
    inside = inside[(inside[:, 1] > 20) & (inside[:, 1] < PANEL - 24) & (inside[:, 0] > 20)]
    assert rows.min() - 3 <= inside[:, 0].min()
    assert columns.mean() == pytest.approx(inside[:, 1].mean(), abs=6)


def test_figure_is_reproducible(stored) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    slice_figure(stored).save(first, "PNG")
    slice_figure(stored).save(second, "PNG")
    assert first.getvalue() == second.getvalue()


def test_figure_without_lesion_shows_the_whole_brain(stored) -> None:
    nothing = replace(stored, lesion=stored.lesion.like(np.zeros_like(stored.lesion.data)))
    assert not len(contour_pixels(nothing))
    figure = slice_figure(nothing)
    assert figure.width == 8 * PANEL - 4
    assert figure.height > 5 * 180  # ten slices, two in each row


def test_figure_names_the_case_and_says_that_it_was_corrected(stored) -> None:
    assert "case" in figure_title(stored)
    assert "dwi.nii.gz" in figure_title(stored)
    assert "corrected" not in figure_title(stored)
    corrected = replace(stored, summary={**stored.summary, "corrections": [{"by": "AB"}]})
    assert "mask corrected manually" in figure_title(corrected)
    assert slice_figure(corrected).tobytes() != slice_figure(stored).tobytes()


def test_letters_beyond_latin_are_drawn(stored, monkeypatch) -> None:
    def named(name: str) -> bytes:
        monkeypatch.setattr("infarct.reporting.figures.figure_title", lambda _: name)
        return slice_figure(stored).tobytes()

    # A font without these letters draws the same box for both.
    assert named("\N{GREEK SMALL LETTER ALPHA}") != named("\N{CYRILLIC SMALL LETTER ZHE}")
