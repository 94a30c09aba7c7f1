import inspect

import numpy as np
import pytest

import infarct
from infarct.core.errors import AssetError, OutputError
from infarct.segmentation.models import DEFAULT


def test_the_face_is_small_sorted_and_complete() -> None:
    assert infarct.__all__ == sorted(infarct.__all__)
    assert dir(infarct) == infarct.__all__
    for name in infarct.__all__:
        assert getattr(infarct, name).__doc__
    with pytest.raises(AttributeError, match="nonsense"):
        infarct.nonsense  # noqa: B018


def test_segment_does_all_and_the_same_each_time(head, quick, tmp_path) -> None:
    # That the network is as steady is tested with the commands that the documents print.
    paths = head.save(tmp_path / "in")
    result = infarct.segment(**paths, model="cfuzzy", out=tmp_path / "out")
    assert np.array_equal(result.lesion.data, quick.lesion.data)
    assert np.array_equal(result.probability.data, quick.probability.data)
    assert result.measurements == quick.measurements
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_default_method_is_that_of_the_command() -> None:
    assert inspect.signature(infarct.segment).parameters["model"].default == DEFAULT


def test_what_can_fail_early_fails_before_the_work(head, tmp_path) -> None:
    paths = head.save(tmp_path / "in")
    with pytest.raises(AssetError, match="magic"):
        infarct.segment(**paths, model="magic")
    with pytest.raises(OutputError, match="never written to"):
        infarct.segment(**paths, out=tmp_path / "in")


def test_every_error_has_an_exit_code_of_its_own() -> None:
    # Errors of the web page end no process.
    own = infarct.InfarctError.__subclasses__()
    kinds = [infarct.InfarctError, *(k for k in own if k.__module__ == "infarct.core.errors")]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert not {0, 2, 130} & set(codes)  # done, usage, interrupted
