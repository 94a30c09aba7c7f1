from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infarct.core.errors import ContentError, InputFileError
from infarct.core.geometry import Grid
from infarct.dicom.convert import Image
from infarct.dicom.headers import ADC_BY_NAME, TRACE, Header
from infarct.dicom.select_series import Choice, explain, rank, write_case
from infarct.dicom.series import Series
from infarct.preprocessing.load import open_case

AXIAL = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -100], [0, 0, 5, -60], [0, 0, 0, 1]])
CORONAL = np.array([[-2.0, 0, 0, 90], [0, 0, 5, -100], [0, 2, 0, -60], [0, 0, 0, 1]])
SERIES = Series(
    *(
        "1.2.3",
        "1.2",
        "1.2.9",
        (20240229, 115900),
        3,
        "dwi of Roe^Jane",
        "Siemens",
        "signal",
        "",
        False,
        (),
    )
)


def image(number: int, *bvalues: float, affine: np.ndarray = AXIAL, study: str = "1.2") -> Image:
    """Create an image: an ADC map if no b-values are given."""
    content = "signal" if bvalues else "adc"
    series = replace(SERIES, uid=f"{study}.{number}", number=number, study_uid=study)
    grid = Grid((90, 100, 30), affine)
    return Image(series, Path("x"), content, bvalues, grid)


def numbers(images: list[Image]) -> list[int]:
    return [choice.dwi.series.number for choice in rank(images)]


def test_axial_then_usual_bvalue_then_lower_number_is_preferred() -> None:
    images = [
        image(9, 0, 1000, affine=CORONAL),
        image(8, 0, 2500),
        image(7, 0, 1000),
        image(6, 0, 1000),
        image(5, 0, 1000, affine=AXIAL @ np.diag([1, 1, 0.2, 1])),  # a slab
    ]
    assert numbers(images) == [6, 7, 5, 8, 9]


def test_the_latest_day_is_preferred_then_the_better_scan() -> None:
    def at(day: int, time: int, made: Image) -> Image:
        return replace(made, series=replace(made.series, studied=(day, time)))

    images = [
        at(20200101, 90000, image(4, 0, 1000, study="1.1")),
        at(20240229, 90000, image(5, 0, 1000, study="1.9")),
        at(20240229, 91500, image(6, 0, 1000, study="1.3")),
        at(20240229, 93000, image(7, 0, 1000, affine=CORONAL, study="1.4")),
        at(0, 0, image(8, 0, 1000, study="1.0")),
    ]
    assert numbers(images) == [6, 5, 7, 4, 8]


def test_a_b0_in_the_same_series_is_preferred() -> None:
    images = [image(3, 1000), image(4, 0), image(5, 0, 1000)]
    best, second = rank(images)
    assert best.dwi.series.number == 5
    assert best.b0 is best.dwi
    # On the same grid, the b0 just before is nearer than the one in the next series.
    assert second.b0.series.number == 4


def test_the_b_value_of_a_separate_b0_is_kept(head, tmp_path: Path) -> None:
    grid = Grid(head.dwi.shape, head.affine)
    images = []
    for number, b, data in ((3, 50, head.b0 * np.exp(-50 * head.adc)), (4, 1000, head.dwi)):
        path = tmp_path / f"{number}.nii"
        nib.Nifti1Image(data.astype(np.float32), head.affine).to_filename(path)
        series = replace(SERIES, uid=f"1.2.{number}", number=number)
        images.append(Image(series, path, "signal", (b,), grid, b0_below=51))
    (choice,) = rank(images)
    (tmp_path / "case").mkdir()
    files = write_case(choice, tmp_path / "case")
    assert (files.b0_below, files.b0_bvalue, files.bvalue) == (51, 50, 1000)
    case = open_case(files)
    assert np.allclose(case.adc.data[head.brain], head.adc[head.brain], atol=2e-6)


def test_an_adc_map_identified_by_image_type_is_preferred() -> None:
    named, sure = image(4), image(5)
    named = replace(named, series=replace(named.series, reason=ADC_BY_NAME))
    assert rank([image(3, 0, 1000), named, sure])[0].adc is sure
    assert rank([image(3, 0, 1000), named])[0].adc is named


def test_companion_images_share_study_and_coordinates() -> None:
    alone = image(3, 1000)
    elsewhere = image(4, 0)
    elsewhere = replace(elsewhere, series=replace(elsewhere.series, frame_of_reference="1.2.10"))
    with pytest.raises(ContentError, match="neither a b0 nor an ADC map"):
        rank([alone, image(4, 0, study="1.7"), elsewhere])


def test_the_error_names_the_differing_uid_of_a_companion_image() -> None:
    alone, elsewhere = image(3, 1000), image(4, 0)
    elsewhere = replace(elsewhere, series=replace(elsewhere.series, frame_of_reference="1.2.10"))
    with pytest.raises(ContentError) as refusal:
        rank([alone, image(7, study="1.7"), elsewhere])
    text = str(refusal.value)
    assert "series 4 (b0) has a different FrameOfReferenceUID: 1.2.10 instead of 1.2.9" in text
    assert "series 7 (ADC) has a different StudyInstanceUID: 1.7 instead of 1.2" in text


def test_an_adc_map_on_another_grid_is_a_last_resort() -> None:
    shifted = AXIAL.copy()
    shifted[2, 3] += 2.5
    adc = image(6, affine=shifted)
    assert rank([image(5, 0, 1000), adc])[0].adc is None
    assert rank([image(5, 1000), adc])[0].adc is adc


def test_the_adc_map_following_the_series_is_preferred() -> None:
    images = [image(4), image(5, 0, 1000), image(6), image(9)]
    assert rank(images)[0].adc.series.number == 6


def adc_of(images: list[Image]) -> dict[int, int | None]:
    """Return the series number of the ADC map used for each DWI."""
    return {c.dwi.series.number: c.adc and c.adc.series.number for c in rank(images)}


def with_header(image: Image, time: float | None = None, *cited: int) -> Image:
    """Set the acquisition time and the referenced series of an image."""
    number, of = image.series.number, frozenset(f"uid-{n}" for n in cited)
    header = Header(
        *(f"uid-{number}", image.series.uid, image.series.study_uid, "1.2.9", (0, 0), ""),
        *(number, 1, 1),
        *(time, of, "", "Siemens", image.content, "", False, ()),
    )
    return replace(image, series=replace(image.series, headers=(header,)))


def trace(number: int) -> Image:
    made = image(number, 0, 1000)
    return replace(made, series=replace(made.series, reason=TRACE))


def test_a_repeated_dwi_never_gets_the_adc_map_of_the_other() -> None:
    repeat = [image(3, 0, 1000), image(7, 0, 1000)]
    assert adc_of([*repeat, image(350), image(750)]) == {3: 350, 7: 750}
    assert adc_of([*repeat, image(350)]) == {3: 350, 7: None}
    assert adc_of([*repeat, image(4)]) == {3: 4, 7: None}
    assert adc_of([*repeat, image(4), image(8)]) == {3: 4, 7: 8}
    # A map before both may belong to either.
    assert adc_of([*repeat, image(2)]) == {3: None, 7: None}
    # A trace image belongs to the acquisition of its directions.
    both = [image(3, 0, 1000), trace(4), image(5), image(6, 0, 1000), trace(7), image(8)]
    assert adc_of(both) == {3: 5, 4: 5, 6: 8, 7: 8}


def test_header_references_take_precedence_over_series_numbers() -> None:
    first, second = with_header(image(3, 0, 1000), 100), with_header(image(5, 0, 1000), 200)
    assert adc_of([first, second, with_header(image(20), 100)]) == {3: 20, 5: None}
    assert adc_of([first, second, with_header(image(20), 200, 3)]) == {3: 20, 5: None}
    # A repeat planned on the first series references it, as its map does.
    planned = with_header(image(5, 0, 1000), None, 3)
    assert adc_of([first, planned, with_header(image(6), None, 3)]) == {3: None, 5: 6}


def test_an_ambiguous_adc_map_is_reported() -> None:
    own_b0 = rank([image(3, 0, 1000), image(7, 0, 1000), image(2)])[0]
    (note,) = explain(own_b0, others=0, studies=1)
    assert (
        "ADC computed because the ADC map in series 2 may belong to series 3 or 7" in note.message
    )
    without = rank([image(3, 1000), image(7, 1000), image(2)])
    assert [choice.adc.series.number for choice in without] == [2, 2]
    (_, warning) = explain(without[0], others=0, studies=1)
    assert (warning.code, warning.level) == ("dicom-adc", "warning")
    assert "series 2 may belong to series 3 or 7" in warning.message


def test_missing_images_are_reported() -> None:
    with pytest.raises(ContentError, match=r"only an ADC map was found \(series 4\)"):
        rank([image(4)])
    with pytest.raises(ContentError, match="only b0 was found"):
        rank([image(4, 0), image(5)])


def test_findings_contain_numbers_but_no_free_text() -> None:
    choice = Choice(image(3, 0, 500, 1000, 1000, 3000), None, image(4))
    findings = explain(replace(choice, b0=choice.dwi), others=2, studies=2)
    text = " ".join(finding.message for finding in findings)
    assert "series 3 (Siemens)" in text
    assert "b 1000 in 2 directions" in text
    assert "ignored: 500, 3000" in text
    assert "2 other series" in text
    assert "Roe" not in text
    assert {finding.code for finding in findings} == {
        *("dicom-series", "dicom-bvalues", "dicom-candidates", "dicom-studies")
    }


def test_a_written_case_has_the_original_images(head, tmp_path: Path) -> None:
    """A series of b0, two shells and an ADC becomes b0, the shell near 1000, and the ADC."""
    affine, shell = head.affine, [head.dwi * 1.1, head.dwi / 1.1]
    series = np.stack([head.b0, head.dwi * 0.3, *shell], axis=-1).astype(np.float32)
    for name, data in (("series", series), ("adc", head.adc.astype(np.float32))):
        made = nib.Nifti1Image(data, affine)
        made.set_sform(affine, code=1)
        made.to_filename(tmp_path / f"{name}.nii")
    grid = Grid(head.dwi.shape, affine)
    dwi = Image(SERIES, tmp_path / "series.nii", "signal", (0, 2000, 990, 1010), grid)
    adc = Image(SERIES, tmp_path / "adc.nii", "adc", (), grid)
    (tmp_path / "case").mkdir()
    case = open_case(write_case(Choice(dwi, dwi, adc), tmp_path / "case"))
    assert case.bvalue == 1000
    assert np.allclose(case.dwi.data, head.dwi, rtol=1e-3)
    assert np.allclose(case.b0.data, head.b0, rtol=1e-3)
    assert np.allclose(case.adc.data, head.adc, atol=1e-6)
    (tmp_path / "bare").mkdir()
    bare = write_case(Choice(dwi, dwi, None), tmp_path / "bare")
    assert bare.adc is None
    assert np.allclose(open_case(bare).dwi.data, case.dwi.data)
    with pytest.raises(InputFileError):
        open_case(replace(bare, dwi=tmp_path / "nowhere.nii"))
