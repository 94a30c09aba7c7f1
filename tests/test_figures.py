import io
from dataclasses import replace

import numpy as np
from matplotlib.image import imread

from infarct.figures import _hang, slice_figure, to_png
from infarct.volume import closest_axes


def test_the_patients_left_hangs_on_the_right_whatever_the_storage() -> None:
    data = np.zeros((6, 7, 8))
    data[0, 6, 7] = 1  # RAS+ storage: left, front, top
    for affine, stored in (
        (np.eye(4), data),
        (np.diag([-1, 1, 1, 1]), data[::-1]),
        (np.eye(4)[:, [2, 0, 1, 3]], data.transpose(2, 0, 1)),
        (np.diag([-1, -1, -1, 1]), data[::-1, ::-1, ::-1]),
    ):
        hung = _hang(stored, closest_axes(affine.astype(float)))
        assert hung.shape == (6, 7, 8)
        assert hung[5, 6, 7] == 1


def test_the_contour_is_drawn_on_the_side_of_the_lesion(segmentation) -> None:
    figure = slice_figure(segmentation)
    drawn = [panel for panel in figure.axes if panel.collections]
    assert drawn
    for panel in drawn:
        x = np.concatenate(
            [path.vertices[:, 0] for c in panel.collections for path in c.get_paths()]
        )
        assert x.mean() > np.mean(panel.get_xlim())  # the left lesion, on the viewer's right


def test_the_picture_is_the_same_every_time_and_not_empty(segmentation) -> None:
    first, second = to_png(slice_figure(segmentation)), to_png(slice_figure(segmentation))
    assert first == second
    pixels = imread(io.BytesIO(first))
    red = (pixels[..., 0] > 0.9) & (pixels[..., 1] < 0.4)
    assert red.sum() > 200


def test_without_a_lesion_the_whole_brain_is_shown(segmentation) -> None:
    nothing = segmentation.lesion.like(np.zeros_like(segmentation.lesion.data))
    figure = slice_figure(replace(segmentation, lesion=nothing))
    assert len([a for a in figure.axes if a.images]) >= 4 * 10
    assert not any(a.collections for a in figure.axes)
