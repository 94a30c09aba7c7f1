"""Images that methods read are computed once, when the first method needs them."""

import numpy as np

from infarct.core.geometry import MNI_GRID
from infarct.segmentation import inputs
from infarct.segmentation.inputs import MethodInputs


def test_each_image_is_computed_once_and_only_on_demand(segmentation, monkeypatch) -> None:
    calls = []

    def recorded(name: str):
        original = getattr(inputs, name)

        def call(*arguments):
            calls.append(name)
            return original(*arguments)

        return call

    for name in ("is_map", "measured_slices"):
        monkeypatch.setattr(inputs, name, recorded(name))
    scan = MethodInputs(segmentation.case, segmentation.prepared)
    assert calls == []
    on_slices = scan.is_map(on_slices=True)
    assert scan.slices is scan.slices
    assert calls == ["measured_slices"]
    at_1mm = scan.is_map(on_slices=False)
    assert scan.is_map_mni is at_1mm.data
    assert calls == ["measured_slices", "is_map"]
    assert at_1mm.data.shape == MNI_GRID.shape
    np.testing.assert_array_equal(at_1mm.affine, MNI_GRID.affine)
    assert on_slices.data.shape == scan.slices.grid.shape
    # Both show the infarct at the same place in MNI space.
    centres = [
        (one.affine @ [*np.argwhere(one.data > 0.5).mean(axis=0), 1])[:3]
        for one in (on_slices, at_1mm)
    ]
    np.testing.assert_allclose(*centres, atol=2.0)
