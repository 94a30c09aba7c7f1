"""The b0 template and the healthy statistics."""

import numpy as np
import pytest

pytest.importorskip("nilearn")

from infarct.core import assets
from infarct.core.errors import InputFileError
from infarct.core.geometry import MNI_GRID
from infarct.lab.sources.templates import (
    STATISTICS,
    LesionFree,
    build,
    build_template,
    healthy_statistics,
    icbm_tissue,
    mirrored,
    write_healthy,
)
from infarct.preprocessing.templates import TEMPLATE_GRID, load_template


@pytest.fixture(scope="module")
def tissue():
    return icbm_tissue()


def scan(tissue, seed: int, shift: float = 0.0) -> LesionFree:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.5, (2, *MNI_GRID.shape)).astype(np.float32)
    dwi = tissue.grey - 3 * tissue.fluid + noise[0] + np.float32(shift)
    adc = 6 * tissue.fluid + noise[1]
    return LesionFree(f"painted-{seed}", dwi, adc, tissue.brain)


def test_shipped_template_matches_the_builder(tissue) -> None:
    built, shipped = build_template(tissue), load_template()
    assert np.array_equal(built.brain, shipped.brain)
    assert np.abs(built.b0.data - shipped.b0.data).max() <= 0.5e-3 + 1e-6


def test_mirroring_is_an_involution_and_keeps_the_midline() -> None:
    image = np.zeros(MNI_GRID.shape, np.float32)
    image[96, 100, 80] = 1  # x = 0
    image[106, 100, 80] = 2  # x = 10
    other = mirrored(image)
    assert other[96, 100, 80] == 1
    assert other[86, 100, 80] == 2
    assert np.array_equal(mirrored(other), image)


def test_statistics_recover_mean_and_sd_of_the_scans(tissue) -> None:
    shifts = (-1.0, 0.0, 1.0)
    scans = [scan(tissue, seed, shift) for seed, shift in enumerate(shifts)]
    by_width = healthy_statistics(scans, tissue, (2.0, 5.0))
    statistics = by_width[2.0]
    # Deep white matter of the left hemisphere: mean 0, SD 0.82 between scans.
    white = np.linalg.inv(TEMPLATE_GRID.affine) @ [-26, -20, 30, 1]
    x, y, z = np.round(white[:3]).astype(int)
    at = (slice(x - 2, x + 3), slice(y - 2, y + 3), slice(z - 1, z + 2))
    assert statistics["dwi_mean"][at].mean() == pytest.approx(0, abs=0.25)
    assert statistics["dwi_sd"][at].mean() == pytest.approx(0.82, abs=0.3)
    assert statistics["adc_mean"][at].mean() == pytest.approx(0, abs=0.6)
    assert all(np.isfinite(image).all() for image in statistics.values())
    assert min(image.min() for name, image in statistics.items() if "sd" in name) > 0
    # Independent voxel noise: more smoothing lowers the SD and keeps the mean.
    adc = {width: named["adc_sd"][at].mean() for width, named in by_width.items()}
    assert adc[5.0] < 0.95 * adc[2.0]
    apart = by_width[5.0]["dwi_mean"][at] - statistics["dwi_mean"][at]
    assert np.abs(apart).mean() < 0.15


def test_tissue_maps_fill_regions_without_scans(tissue) -> None:
    part = scan(tissue, 1)
    slab = part.brain.copy()
    slab[:, :, :90] = False
    slab_alone = [LesionFree("slab", part.dwi, part.adc, slab)]
    statistics = healthy_statistics(slab_alone, tissue, (2.0,))[2.0]
    low, brain = slice(20, 35), load_template().brain
    fluid = (load_template().b0.data > 2.2) & brain
    white = (load_template().b0.data < 1.1) & brain
    adc = statistics["adc_mean"]
    assert adc[..., low][fluid[..., low]].mean() > adc[..., low][white[..., low]].mean() + 2


def test_invalid_input_is_rejected_before_anything_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(assets, "ROOT", tmp_path / "package")
    (tmp_path / "normals" / "a").mkdir(parents=True)
    for text in (None, "{", "[]", "{}", '{"bvalue_s_per_mm2": "high"}'):
        if text is not None:
            (tmp_path / "normals" / "a" / "a.json").write_text(text)
        with pytest.raises(InputFileError, match="bvalue_s_per_mm2"):
            build(tmp_path / "normals")
    with pytest.raises(InputFileError, match="no scan folders found"):
        build(tmp_path / "mistyped")
    with pytest.raises(InputFileError, match="no lesion-free scans given"):
        build(None)
    assert not (tmp_path / "package").exists()


def test_interrupted_write_keeps_the_existing_statistics(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    monkeypatch.setattr(assets, "_INDEX", tmp_path / "assets.json")
    (tmp_path / "templates").mkdir()
    image = np.ones(TEMPLATE_GRID.shape, np.float32)
    both = {width: dict.fromkeys(STATISTICS, image) for width in (2.0, 4.0)}
    write_healthy(both, ["a"], "made for this")
    before = {path.name: path.read_bytes() for path in (tmp_path / "templates").iterdir()}
    ends = ("", "_fwhm4")
    files = {f"{name}{end}.nii.gz" for name in STATISTICS for end in ends}
    assert set(before) == files | {f"note{end}.json" for end in ends}
    listed = (tmp_path / "assets.json").read_text()

    def interrupted():
        yield "dwi_mean", 2 * image
        raise KeyboardInterrupt

    class Stopped(dict):
        def items(self):
            return interrupted()

    with pytest.raises(KeyboardInterrupt):
        write_healthy({2.0: Stopped.fromkeys(STATISTICS)}, ["a", "b"], "made for this")
    assert {path.name: path.read_bytes() for path in (tmp_path / "templates").iterdir()} == before
    assert (tmp_path / "assets.json").read_text() == listed
