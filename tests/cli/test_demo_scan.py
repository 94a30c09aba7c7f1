from infarct.cli.demo_scan import demo_files, score
from infarct.core import assets
from infarct.core.nifti import read
from infarct.pipeline import segment_case
from infarct.preprocessing.load import open_case


def test_the_demo_scan_runs_and_is_scored_against_its_truth() -> None:
    result = segment_case(open_case(demo_files()), "cfuzzy")
    truth = read(assets.path("demo/lesion"))
    assert truth.grid.matches(result.case.dwi.grid)
    assert truth.data.any()
    assert "Dice" in score(result)
    perfect = result.lesion.like(truth.data > 0.5)
    object.__setattr__(result, "lesion", perfect)
    assert "Dice 1.00, precision 1.00, sensitivity 1.00" in score(result)
