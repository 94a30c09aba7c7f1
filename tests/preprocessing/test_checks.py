import nibabel as nib
import numpy as np
import pytest

from infarct.core.errors import ContentError, GeometryError
from infarct.core.findings import Finding, FindingCode
from infarct.core.geometry import MNI_GRID, Grid
from infarct.core.nifti import Volume
from infarct.core.normalisation import TissuePeak
from infarct.preprocessing import checks, image_checks
from infarct.preprocessing.registration import InPlane, Registration

BRAIN = np.zeros((32, 32, 8), bool)
BRAIN[8:24, 8:24, 1:7] = True


EVERYWHERE = np.ones(BRAIN.shape, dtype=bool)


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def volume(spacing: tuple[float, ...], shape: tuple[int, ...]) -> Volume:
    return Volume(np.zeros(shape, np.float32), np.diag([*spacing, 1.0]))


def test_a_plausible_grid_passes() -> None:
    for spacing, shape in (
        ((0.6, 0.6, 8.0), (384, 384, 18)),
        ((3.5, 3.5, 4.2), (64, 64, 20)),
        ((5.0, 1.2, 1.2), (30, 192, 192)),
    ):
        assert image_checks.check_grid("DWI", volume(spacing, shape)) == []


@pytest.mark.parametrize(
    ("spacing", "shape"),
    [
        ((1e-3, 1e-3, 5e-3), (192, 192, 30)),  # metres
        ((1200.0, 1200.0, 5000.0), (192, 192, 30)),  # micrometres
        ((1.0, 1.0, 1.0), (64, 64, 20)),  # voxel size lost
        ((2.0, 2.0, 5.0), (112, 112, 2)),
    ],
)
def test_voxels_that_cannot_be_a_head_are_rejected(
    spacing: tuple[float, ...], shape: tuple[int, ...]
) -> None:
    with pytest.raises(GeometryError):
        image_checks.check_grid("DWI", volume(spacing, shape))


def test_images_without_signal_are_rejected() -> None:
    with pytest.raises(ContentError, match="finite"):
        image_checks.check_signal("DWI", np.full((4, 4, 4), np.nan, np.float32))
    with pytest.raises(ContentError, match="every voxel"):
        image_checks.check_signal("DWI", np.full((4, 4, 4), 7, np.float32))
    hounsfield = np.full((10, 10, 10), -1000, np.float32)
    hounsfield[3:7, 3:7, 3:7] = 40
    with pytest.raises(ContentError, match="Hounsfield"):
        image_checks.check_signal("DWI", hounsfield)


def test_stray_voxels_are_counted() -> None:
    data = np.full((10, 10, 10), 100, np.float32)
    data[0, 0, 0], data[0, 0, 1] = np.nan, -3
    data[1] = 50
    findings = image_checks.check_signal("b0", data)
    assert codes(findings) == ["non-finite-voxels", "negative-voxels"]
    assert "1 voxels" in findings[0].message
    data[2] = -1
    assert image_checks.check_signal("b0", data)[1].level == "warning"


@pytest.mark.parametrize("bvalue", [0.0, 5.0, -1000.0, float("nan"), float("inf")])
def test_b_values_without_weighting_are_rejected(bvalue: float) -> None:
    with pytest.raises(ContentError, match="diffusion weighting"):
        image_checks.check_bvalue(bvalue)


def test_unusual_b_values_are_reported() -> None:
    assert image_checks.check_bvalue(1000) == []
    assert codes(image_checks.check_bvalue(200)) == ["bvalue-unusual"]


def test_a_brain_that_is_cut_or_missing_is_reported() -> None:
    grid = Grid((32, 32, 8), np.diag([8.0, 8.0, 10.0, 1.0]))
    assert checks.check_brain(BRAIN, grid, 2, EVERYWHERE) == []
    cut = BRAIN.copy()
    cut[8:24, 8:24, 7] = True
    finding = checks.check_brain(cut, grid, 2, EVERYWHERE)[0]
    assert finding.code == "brain-cropped"
    assert "last" in finding.message
    assert "first" not in finding.message
    padded, scanned = (mask & (np.arange(8) >= 3) for mask in (BRAIN, EVERYWHERE))
    assert "brain-cropped" in codes(checks.check_brain(padded, grid, 2, scanned))
    assert "brain-cropped" not in codes(checks.check_brain(padded, grid, 2, EVERYWHERE))
    beside = BRAIN.copy()
    beside[0:8, 8:24, 1:7] = True
    assert "along axis 1" in checks.check_brain(beside, grid, 2, EVERYWHERE)[0].message
    checks.check_brain_is_found(BRAIN, grid)
    with pytest.raises(ContentError, match="brain mask holds only"):
        checks.check_brain_is_found(BRAIN, Grid((32, 32, 8), np.diag([2.0, 2.0, 2.0, 1.0])))
    small = Grid((32, 32, 8), np.diag([4.0, 4.0, 5.0, 1.0]))
    assert codes(checks.check_brain(BRAIN, small, 2, EVERYWHERE)) == ["brain-volume-unusual"]


def registration(scale: tuple[float, float] = (1.0, 1.0), turn: float = 0.0) -> Registration:
    return Registration(InPlane((0.0, 0.0, 0.0), scale, turn), np.eye(4), np.eye(4), 0.3)


def test_unusual_registrations_are_reported() -> None:
    brain = np.zeros(MNI_GRID.shape, bool)
    brain[40:150, 40:180, 60:100] = True
    assert checks.check_registration(registration(), brain, brain) == []
    assert codes(checks.check_registration(registration((1.5, 1.0)), brain, brain)) == [
        "registration-unusual"
    ]
    assert codes(checks.check_registration(registration(turn=0.7), brain, brain)) == [
        "registration-unusual"
    ]
    moved = np.roll(brain, 50, axis=0)
    assert codes(checks.check_registration(registration(), moved, brain)) == ["registration-poor"]


def test_overlap_counts_only_what_was_scanned() -> None:
    template = np.ones((10, 10, 10), bool)
    slab = template.copy()
    slab[:, :, :6] = False
    assert checks.overlap_where_scanned(slab, template) == 1.0


def test_too_little_brain_on_the_template_is_rejected() -> None:
    with pytest.raises(ContentError, match="axial"):
        checks.check_brain_is_left(np.zeros((50, 50, 10), bool))


def test_a_failed_fit_is_reported() -> None:
    good, bad = TissuePeak(1, 1, converged=True), TissuePeak(1, 1, converged=False)
    assert codes(checks.check_peaks(good, bad)) == ["adc-peak-fit-failed"]


@pytest.mark.parametrize(
    ("shift_mm", "level"), [(0.9, None), (2.4, "note"), (2.6, "warning"), (9.0, "warning")]
)
def test_forms_that_differ_by_less_than_half_a_slice_are_a_note(shift_mm, level) -> None:
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    image = nib.Nifti1Image(np.ones((100, 100, 20), np.float32), affine)
    image.set_sform(affine, code=1)
    moved = affine.copy()
    moved[0, 3] = shift_mm
    image.set_qform(moved, code=1)
    volume = Volume(np.ones((100, 100, 20), np.float32), affine, image.header)
    found = [f for f in image_checks.check_grid("DWI", volume) if f.code == "sform-qform-mismatch"]
    assert [f.level for f in found] == ([level] if level else [])


def test_equal_form_findings_of_several_images_become_one() -> None:
    def finding(name: str, level: str, text: str) -> Finding:
        return Finding(FindingCode.SFORM_QFORM_MISMATCH, level, f"{name}: {text}")

    other = Finding(FindingCode.NEGATIVE_VOXELS, "note", "b0: 3 voxels are negative")
    damaged = finding("brain", "warning", "the qform is damaged")
    notes = [finding(name, "note", "the forms differ") for name in ("DWI", "b0", "ADC")]
    joined = image_checks.join_form_findings([notes[0], other, *notes[1:], damaged])
    assert [f.message for f in joined] == [
        *("DWI, b0, ADC: the forms differ", "b0: 3 voxels are negative"),
        "brain: the qform is damaged",
    ]
    assert image_checks.join_form_findings([notes[0], other]) == [notes[0], other]
