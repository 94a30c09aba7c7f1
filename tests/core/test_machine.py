"""Tests of the limits on cores and memory from control groups of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infarct.core import machine


def system(root: Path, groups: str, **files: str) -> Path:
    """Write /proc/self/cgroup and the files of the control groups below a folder."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64_000_000_000 // 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)


def test_without_control_groups_all_cores_are_available(tmp_path: Path) -> None:
    assert machine.cores(tmp_path) == 64
    assert machine.memory_bytes(tmp_path) == 64_000_000_000


@pytest.mark.parametrize(("quota", "cores"), [("150000", 2), ("50000", 1), ("max", 64)])
def test_version_2_limits_include_every_enclosing_group(
    tmp_path: Path, quota: str, cores: int
) -> None:
    files = {"job/cpu.max": f"{quota} 100000\n", "job/step/cpu.max": "max 100000\n"}
    files |= {"job/memory.max": "3000000000\n", "job/step/memory.max": "max\n"}
    root = system(tmp_path, "0::/job/step\n", **files)
    assert machine.cores(root) == cores
    assert machine.memory_bytes(root) == 3_000_000_000


@pytest.mark.parametrize("path", ["/docker/abc", "/"])
def test_version_1_limits_are_read_even_with_a_host_path(tmp_path: Path, path: str) -> None:
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    files["memory/memory.limit_in_bytes"] = "5000000000\n"
    root = system(tmp_path, f"4:memory:{path}\n2:cpu,cpuacct:{path}\n", **files)
    assert machine.cores(root) == 4
    assert machine.memory_bytes(root) == 5_000_000_000


def test_version_1_without_a_quota_limits_nothing(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert machine.cores(system(tmp_path, "2:cpu:/\n", **files)) == 64


def test_the_resident_memory_of_a_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    held = machine.resident_bytes(os.getpid())
    if held is None:
        pytest.skip("no /proc here")
    assert 10_000_000 < held < machine.memory_bytes()
    assert machine.resident_bytes(2**22 + 1) is None
