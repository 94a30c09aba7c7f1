from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from infarct.core.errors import GeometryError, InputFileError
from infarct.measurement.atlas import Atlas, load_atlas, load_certainty, read_atlas
from infarct.preprocessing.templates import load_template

# Points no textbook disputes, MNI mm on the patient's left (x < 0).
TERRITORY_AT = {
    (-5, 42, 25): "ACA",  # medial frontal gyrus
    (-6, -25, 60): "ACA",  # paracentral lobule
    (-38, 2, 4): "MCA",  # insula
    (-27, 0, 3): "MCA",  # putamen
    (-52, -8, 38): "MCA",  # lateral central sulcus
    (-58, -25, -5): "MCA",  # middle temporal gyrus
    (-11, -19, 7): "PCA",  # thalamus
    (-9, -82, 3): "PCA",  # calcarine sulcus
    (-24, -25, -14): "PCA",  # hippocampus
    (-5, -26, -34): "VB",  # pons
    (-30, -65, -42): "VB",  # cerebellar hemisphere
}
REGION_AT = {
    (-38, 2, 4): "insula",
    (-27, 0, 3): "lentiform",
    (-14, 12, 12): "caudate",
    (-11, -19, 7): "thalamus",
    (-21, -3, 7): "internal capsule",
    (-24, -25, -14): "hippocampus and amygdala",
    (-5, -20, -12): "midbrain",
    (-5, -29, -10): "midbrain",
    (-5, -26, -34): "pons",
    (-3, -40, -58): "medulla",
    (-30, -65, -42): "cerebellum",
    (-45, 32, 15): "frontal cortex",
    (-52, -40, 45): "parietal cortex",
    (-58, -25, -8): "temporal cortex",
    (-9, -90, 3): "occipital cortex",
    (-28, -20, 32): "white matter",
    (-12, 10, 18): "ventricle",
}


def label_at(atlas: Atlas, point: tuple[float, float, float]) -> tuple[str, str, str]:
    voxel = np.linalg.inv(atlas.labels.affine) @ [*point, 1]
    i, j, k = np.rint(voxel[:3]).astype(int)
    index = atlas.labels.data[i, j, k]
    entry = next(e for e in atlas.entries if e.index == index)
    return entry.name, entry.group, entry.side


@pytest.mark.parametrize("point", TERRITORY_AT)
def test_territories_are_where_anatomy_puts_them(point: tuple[int, int, int]) -> None:
    x, y, z = point
    atlas = load_atlas("territories")
    assert label_at(atlas, point)[1:] == (TERRITORY_AT[point], "left")
    assert label_at(atlas, (-x, y, z))[1:] == (TERRITORY_AT[point], "right")


@pytest.mark.parametrize("point", REGION_AT)
def test_regions_are_where_anatomy_puts_them(point: tuple[int, int, int]) -> None:
    x, y, z = point
    atlas = load_atlas("regions")
    assert label_at(atlas, point)[::2] == (REGION_AT[point], "left")
    assert label_at(atlas, (-x, y, z))[::2] == (REGION_AT[point], "right")


@pytest.mark.parametrize("name", ["territories", "regions"])
def test_every_voxel_of_the_brain_has_one_label_and_a_mirror_image(name: str) -> None:
    atlas = load_atlas(name)  # type: ignore[arg-type]
    labels = atlas.labels.data.astype(int)
    side = {entry.index: entry.side for entry in atlas.entries}
    swapped = np.where(labels > 0, np.where(labels % 2 == 1, labels + 1, labels - 1), 0)
    assert np.array_equal(labels[::-1], swapped)
    assert {side[i] for i in np.unique(labels) if i % 2 == 1} == {"left"}
    brain = ndimage.binary_erosion(load_template().brain)  # the two grids round its rim apart
    world = np.argwhere(brain) @ load_template().b0.affine[:3, :3].T
    world += load_template().b0.affine[:3, 3]
    voxel = (world - atlas.labels.affine[:3, 3]) / 2
    at = np.clip(np.rint(voxel).astype(int), 0, np.array(labels.shape) - 1)
    assert (labels[tuple(at.T)] > 0).all()


def test_atlases_agree_with_each_other() -> None:
    regions, territories = load_atlas("regions"), load_atlas("territories")
    below = [e.index for e in regions.entries if e.group == "infratentorial"]
    vb = [e.index for e in territories.entries if e.group == "VB"]
    in_vb = np.isin(territories.labels.data, vb)
    assert in_vb[np.isin(regions.labels.data, below)].all()
    assert load_certainty().data.shape == territories.labels.data.shape


def test_the_territory_probability_is_lower_at_a_border() -> None:
    certainty = load_certainty()
    atlas = load_atlas("territories")

    def at(x: float, y: float, z: float) -> float:
        i, j, k = np.rint((np.array([x, y, z]) - certainty.affine[:3, 3]) / 2).astype(int)
        return float(certainty.data[i, j, k])

    assert at(-45, 0, 20) > 0.9  # the heart of the MCA
    labelled = certainty.data[atlas.labels.data > 0]
    assert labelled.min() > 0.24  # of four arteries, the likeliest has a quarter at least
    assert labelled.max() <= 1.0 + 1e-6
    assert 0.02 < (labelled < 0.6).mean() < 0.3


def save(folder: Path, data: np.ndarray, rows: str) -> tuple[Path, Path]:
    image = nib.Nifti1Image(data, np.diag([10.0, 10.0, 10.0, 1.0]))
    image.affine[:3, 3] = (-90, -120, -70)
    folder.mkdir(exist_ok=True)
    nib.save(image, folder / "map.nii.gz")
    (folder / "names.tsv").write_text(rows)
    return folder / "map.nii.gz", folder / "names.tsv"


def test_custom_atlases_in_mni_space_are_read(tmp_path: Path) -> None:
    data = np.zeros((19, 22, 17), np.int16)
    data[:9], data[9:] = 7, 3
    rows = "name\tindex\tside\nnorth\t7\tLeft\nsouth\t3\t\n"
    atlas = read_atlas(*save(tmp_path, data, rows))
    assert [(e.index, e.name, e.side, e.group) for e in atlas.entries] == [
        (7, "north", "left", "north"),
        (3, "south", "", "south"),
    ]
    assert atlas.file == "map.nii.gz"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("index\tname\n1\tA\n", "does not name the labels [2]"),
        ("index,name\n1,A\n2,B\n", "columns"),
        ("index\tname\n1\tA\n1\tB\n2\tC\n", "twice"),
        ("index\tname\tside\n1\tA\tport\n2\tB\t\n", "left, right or nothing"),
        ("index\tname\nx\tA\n2\tB\n", "whole number"),
        ("index\tname\n1\t\n2\tB\n", "name"),
    ],
)
def test_invalid_tables_are_rejected(tmp_path: Path, rows: str, told: str) -> None:
    data = np.ones((19, 22, 17), np.int16)
    data[9:] = 2
    with pytest.raises(InputFileError, match=r"names\.tsv") as error:
        read_atlas(*save(tmp_path, data, rows))
    assert told in str(error.value)


def test_maps_that_are_not_an_atlas_are_rejected(tmp_path: Path) -> None:
    rows = "index\tname\n1\tA\n"
    with pytest.raises(GeometryError, match="whole numbers"):
        read_atlas(*save(tmp_path, np.full((19, 22, 17), 0.5, np.float32), rows))
    corner = np.zeros((19, 22, 17), np.int16)
    corner[0, 0, 0] = 1
    with pytest.raises(GeometryError, match="MNI"):
        read_atlas(*save(tmp_path, corner, rows))
    with pytest.raises(InputFileError):
        read_atlas(save(tmp_path, corner + 1, rows)[0], tmp_path / "absent.tsv")
