"""Follow-up from result folders to report: known growth, and scans that cannot be compared."""

import csv
import json
import re

import numpy as np
import pytest
from heads import ball, make_head, rigid, write_result

from infarct.cli.main import main
from infarct.core.errors import FollowUpError, InputFileError, OutputError
from infarct.core.nifti import read
from infarct.followup.change import Fate
from infarct.followup.run import PAGE, FollowRequest, follow
from infarct.followup.tables import COLUMNS

MOVE = rigid((3, -2, 4), (2, -3, 4))


def moved_ball(centre, radius):
    return ball(tuple(MOVE[:3, :3] @ centre + MOVE[:3, 3]), radius)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Three scans of patient 1: the lesion grows; the second scan is in another pose."""
    home = tmp_path_factory.mktemp("results")
    first = write_result(
        home / "day0", make_head(1, 1), ball((30, 0, 10), 15), (11, 18), "2026-03-01T10:00"
    )
    second = write_result(
        home / "day1",
        make_head(1, 2, np.linalg.inv(MOVE)),
        moved_ball((30, 0, 10), 22) | moved_ball((-35, 20, 15), 9),
        (40, 58),
        "2026-03-02T10:00",
    )
    third = write_result(home / "day5", make_head(1, 3), ball((30, 0, 10), 18), None, "2026-03-06")
    return home, first, second, third


@pytest.fixture(scope="module")
def done(results):
    home, first, second, third = results
    out = home / "follow"
    return out, follow(FollowRequest((first, second, third), out))


def test_growth_and_a_new_lesion_are_measured(done):
    _, (comparison, *_) = done
    volume = 4 / 3 * np.pi / 1000
    assert comparison.growth.ml == pytest.approx(volume * (22**3 - 15**3 + 9**3), rel=0.15)
    assert comparison.growth.verdict == "growth"
    assert comparison.tissue[Fate.persistent].ml == pytest.approx(volume * 15**3, rel=0.15)
    assert comparison.tissue[Fate.new].ml == pytest.approx(volume * 9**3, rel=0.25)
    assert comparison.tissue[Fate.reversed].ml < 1.0
    assert comparison.new_lesions == 1
    assert comparison.hours == 24


def test_signal_is_relative_to_normal_tissue(done):
    _, (comparison, *_) = done
    persistent, recruited = (comparison.tissue[f] for f in (Fate.persistent, Fate.recruited))
    assert persistent.adc_ratio == pytest.approx((0.6, 0.6), abs=0.12)
    assert recruited.adc_ratio[0] > 0.9 > recruited.adc_ratio[1]


def test_without_an_interval_there_is_no_verdict(done):
    _, comparisons = done
    assert comparisons[1].growth.verdict == "unknown"
    assert any("No interval" in remark for remark in comparisons[1].remarks)


def test_the_tables_follow_the_dictionary(done):
    out, comparisons = done
    with (out / "follow.tsv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert len(rows) == len(comparisons) == 3
    assert list(rows[0]) == list(json.loads((out / "follow_columns.json").read_text()))
    assert list(rows[0]) == list(COLUMNS)
    assert float(rows[0]["growth_ml"]) == pytest.approx(comparisons[0].growth.ml, rel=1e-4)
    content = json.loads((out / "follow.json").read_text())
    assert content["comparisons"][0]["verdict"] == "growth"


def test_region_volumes_add_up_to_the_fates(done):
    out, comparisons = done
    with (out / "follow_regions.tsv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    names = (comparisons[0].first.name, comparisons[0].second.name)
    total = sum(
        float(row["ml"])
        for row in rows
        if (row["first"], row["second"]) == names
        and (row["atlas"], row["fate"]) == ("territories", "persistent")
    )
    assert total <= comparisons[0].tissue[Fate.persistent].ml * 1.001
    assert total > 0


def test_the_label_map_is_on_the_grid_of_the_later_scan(done, results):
    out, _ = done
    label, mask = read(out / "fate_1-2.nii.gz"), read(results[2] / "lesion_mask.nii.gz")
    assert label.grid.matches(mask.grid)
    later = np.isin(label.data, [Fate.persistent, Fate.recruited, Fate.new])
    assert (later == (mask.data > 0)).all()


def test_the_report_is_self_contained_and_draws_a_curve_for_three_scans(done):
    page = (done[0] / PAGE).read_text()
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    assert '<svg class="curve"' in page
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page), re.IGNORECASE)


def test_the_same_scan_twice_is_refused(results, tmp_path):
    _, first, *_ = results
    with pytest.raises(FollowUpError, match="same scan"):
        follow(FollowRequest((first, first), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_copy_under_another_name_is_refused(results, tmp_path):
    copy = write_result(tmp_path / "copy", make_head(1, 1), ball((30, 0, 10), 15))
    with pytest.raises(FollowUpError, match="same scan"):
        follow(FollowRequest((results[1], copy), tmp_path / "out"))


def test_swapped_scans_are_refused(results, tmp_path):
    _, first, second, _ = results
    with pytest.raises(FollowUpError, match="order"):
        follow(FollowRequest((second, first), tmp_path / "out"))


def test_dates_on_the_command_line_replace_those_of_the_results(results, tmp_path):
    _, first, second, _ = results
    times = ("2026-03-01T10:00", "2026-03-01T16:00")
    (comparison,) = follow(FollowRequest((first, second), tmp_path / "out", times))
    assert comparison.hours == 6
    with pytest.raises(InputFileError, match="ISO 8601"):
        follow(FollowRequest((first, second), tmp_path / "other", ("yesterday", "today")))
    with pytest.raises(FollowUpError, match="one each"):
        follow(FollowRequest((first, second), tmp_path / "other", times[:1]))


def test_another_patient_is_refused_with_a_picture(results, tmp_path):
    other = write_result(tmp_path / "other", make_head(2, 5), ball((30, 0, 10), 15))
    with pytest.raises(FollowUpError, match="same brain"):
        follow(FollowRequest((results[1], other), tmp_path / "out"))
    assert (tmp_path / "out-mismatch.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_growth_and_has_its_own_exit_code(results, tmp_path, capsys):
    out = tmp_path / "out"
    for scans, code in ((results[1:3], 0), (results[1:2] * 2, 13)):
        with pytest.raises(SystemExit) as ended:
            _run_command("follow", *map(str, scans), "--out", str(out / str(code)))
        assert (ended.value.code or 0) == code
    printed = capsys.readouterr()
    assert "Growth: +" in printed.out
    assert "same scan" in printed.err


def _run_command(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["infarct", *arguments])
        main()


def test_one_scan_is_refused(results, tmp_path):
    with pytest.raises(FollowUpError, match="at least two"):
        follow(FollowRequest((results[1],), tmp_path / "out"))


def test_other_files_are_never_replaced(results, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            follow(FollowRequest(results[1:3], tmp_path / "out", overwrite=overwrite))
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
