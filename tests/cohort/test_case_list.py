from collections.abc import Iterator
from pathlib import Path

import pytest

from infarct.cohort.case_list import find_jobs
from infarct.core.errors import InputFileError


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def table(folder: Path, text: str, name: str = "cases.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_table_defines_each_case(tmp_path: Path) -> None:
    put(tmp_path, "one/dwi.nii.gz")
    cases = table(
        tmp_path,
        "id,dwi,b0,adc,bvalue\ns1,one/dwi.nii.gz,one/b0.nii.gz,,1500\ns2,/far/dwi.nii,,/far/a.nii,\n",
    )
    one, two = find_jobs(cases, tmp_path / "out")
    assert (one.id, one.folder) == ("s1", tmp_path / "out" / "s1")
    assert one.files.dwi == tmp_path / "one/dwi.nii.gz"
    assert one.files.b0 == tmp_path / "one/b0.nii.gz"
    assert (one.files.adc, one.files.bvalue) == (None, 1500.0)
    assert (two.files.adc, two.files.b0, two.files.bvalue) == (Path("/far/a.nii"), None, None)


def test_the_limit_of_b0_applies_to_every_case(tmp_path: Path) -> None:
    put(tmp_path, "a/dwi.nii.gz", "b/dwi.nii.gz")
    jobs = find_jobs(f"{tmp_path}/*/dwi.nii.gz", tmp_path / "out", 51)
    assert [job.files.b0_below for job in jobs] == [51, 51]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_any_common_delimiter_is_read(tmp_path: Path, delimiter: str) -> None:
    put(tmp_path, "dwi.nii.gz")
    rows = [["ID", "DWI", "BValue"], ["s1", "dwi.nii.gz", " 1000 "]]
    text = "\ufeff" + "\r\n".join(delimiter.join(row) for row in rows)
    (job,) = find_jobs(table(tmp_path, text), tmp_path / "out")
    assert (job.id, job.files.bvalue) == ("s1", 1000.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "row 1 has the columns none"),
        ("id,dwi,bvale\ns1,dwi.nii.gz,3000\n", "bvale; dwi and id are required"),
        ("id,b0\ns1,b0.nii.gz\n", "dwi and id are required"),
        ("id,dwi\n", "no rows below the header"),
        ("id,dwi,bvalue\ns1,a.nii,b1000\n", r"row 2: bvalue is 'b1000'; expected .* s/mm\^2"),
        ("id,dwi,bvalue\ns1,dwi.nii.gz,-1\n", "row 2: bvalue is '-1'"),
        ("id,dwi\ns1,dwi.nii.gz\nS1,dwi.nii.gz\n", "row 3: id 'S1' is already used in row 2"),
        ("id,dwi\n../s1,dwi.nii.gz\n", r"row 2: id '../s1' is not a valid id"),
        ("id,dwi\ngroup,dwi.nii.gz\n", "row 2: id 'group' is reserved for the group results"),
        ("id,dwi\ns1,\n", "row 2: dwi is empty"),
        ("id,dwi\ns1,~nobody-at-all/dwi.nii\n", "row 2: .*home directory"),
        (f"id,dwi,b0\ns1,dwi.nii.gz,{'x' * 300}.nii\n", "row 2: b0 .*File name too long"),
        ("id,dwi\ns1,a,b.nii.gz\n", "row 2: more cells than the header"),
        ('id,dwi\ns1,"dwi.nii.gz\ns2,dwi.nii.gz\n', "row 1 cannot be read .* unclosed"),
        ("id,dwi\ns1,elsewhere/dwi.nii.gz\n", "none of the DWI images exists"),
    ],
)
def test_an_invalid_table_is_reported_row_by_row(tmp_path: Path, text: str, told: str) -> None:
    put(tmp_path, "dwi.nii.gz")
    with pytest.raises(InputFileError, match=told):
        find_jobs(table(tmp_path, text), tmp_path / "out")


def test_all_invalid_rows_are_reported_at_once_up_to_a_limit(tmp_path: Path) -> None:
    text = "id,dwi\n" + "".join(f"s{i},\n" for i in range(500))
    with pytest.raises(InputFileError, match="row 11: dwi is empty") as caught:
        find_jobs(table(tmp_path, text), tmp_path / "out")
    assert str(caught.value).splitlines()[11:] == ["  and 490 more"]


def test_one_missing_image_does_not_stop_the_others(tmp_path: Path) -> None:
    put(tmp_path, "dwi.nii.gz")
    cases = table(tmp_path, "id,dwi\ns1,dwi.nii.gz\ns2,gone.nii.gz\n")
    assert [job.id for job in find_jobs(cases, tmp_path / "out")] == ["s1", "s2"]


def test_a_table_whose_name_looks_like_a_pattern_is_a_table(tmp_path: Path) -> None:
    put(tmp_path, "dwi.nii.gz")
    (tmp_path / "cases[1].csv").write_text("id,dwi\ns1,dwi.nii.gz\n")
    assert [job.id for job in find_jobs(str(tmp_path / "cases[1].csv"), tmp_path / "o")] == ["s1"]


def test_wildcards_define_the_case_ids(tmp_path: Path) -> None:
    put(
        tmp_path, *(f"d/{s}/dwi.nii.gz" for s in ("s2", "s10")), "d/s2/b0.nii.gz", "d/s2/ADC.nii.gz"
    )
    jobs = {job.id: job.files for job in find_jobs(f"{tmp_path}/d/*/dwi.nii.gz", tmp_path / "out")}
    assert set(jobs) == {"s2", "s10"}
    assert jobs["s2"].b0 == tmp_path / "d/s2/b0.nii.gz"
    assert jobs["s2"].adc == tmp_path / "d/s2/ADC.nii.gz"
    assert (jobs["s10"].b0, jobs["s10"].adc) == (None, None)


def test_a_pattern_may_go_deep_and_name_files_by_their_prefix(tmp_path: Path) -> None:
    put(tmp_path, "d/a/x/p1_DWI.nii.gz", "d/a/x/p1_b0.nii.gz", "d/p2_DWI.nii.gz")
    jobs = {job.id: job.files for job in find_jobs(f"{tmp_path}/d/**/*_DWI.nii.gz", tmp_path / "o")}
    assert set(jobs) == {"a_x_p1", "p2"}
    assert jobs["a_x_p1"].b0 == tmp_path / "d/a/x/p1_b0.nii.gz"


@pytest.mark.parametrize("pattern", ["d/*/dwi.nii.gz", "d/**/dwi.nii.gz", "d/s?/dwi.nii.gz"])
def test_an_unreadable_folder_below_a_pattern_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    put(tmp_path, "d/s1/dwi.nii.gz", "d/s2/dwi.nii.gz", "shut/x.nii.gz")
    real = Path.iterdir

    # Not by its rights: root may read all.
    def iterdir(path: Path) -> Iterator[Path]:
        if path.name in {"s2", "shut"}:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(InputFileError, match=r"s2: cannot be read \(Permission denied\)"):
        find_jobs(f"{tmp_path}/{pattern}", tmp_path / "out")
    assert len(find_jobs(f"{tmp_path}/d/?1/dwi.nii.gz", tmp_path / "out")) == 1


def test_a_pattern_without_match_or_with_duplicate_ids_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="matches no file"):
        find_jobs(f"{tmp_path}/*/dwi.nii.gz", tmp_path / "out")
    put(tmp_path, "a_b/dwi.nii.gz", "a/b/dwi.nii.gz")
    with pytest.raises(InputFileError, match="have the same id a_b; use a table"):
        find_jobs(f"{tmp_path}/**/dwi.nii.gz", tmp_path / "out")


@pytest.mark.parametrize("pattern", ["*/dwi.nii.gz", "**/*.nii.gz", "s?/*dwi.nii.gz", "s1/.*dwi*"])
def test_a_pattern_matches_no_hidden_file(tmp_path: Path, pattern: str) -> None:
    for name in ("s1/dwi.nii.gz", "s1/._dwi.nii.gz", ".s2/dwi.nii.gz", "._s1/dwi.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    if pattern == "s1/.*dwi*":
        with pytest.raises(InputFileError, match="matches no file"):
            find_jobs(f"{tmp_path}/{pattern}", tmp_path / "out")
        return
    (job,) = find_jobs(f"{tmp_path}/{pattern}", tmp_path / "out")
    assert job.files.dwi == tmp_path / "s1/dwi.nii.gz"
