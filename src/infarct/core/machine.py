"""Cores and memory available to this process, within the limits of containers and schedulers."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """Count the cores this process may use.

    Args:
        root: Root of the file system that holds `proc` and `sys`; replaced only in tests.

    Returns:
        The smallest of the number of cores, the CPU affinity and the quota of every enclosing
        control group, rounded up; at least one.
    """
    granted = getattr(os, "sched_getaffinity", None)
    count = len(granted(0)) if granted else os.cpu_count() or 1
    quotas = [_quota(folder) for folder in _groups("cpu", root)]
    return max(1, min([count, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def memory_bytes(root: Path = _ROOT) -> int:
    """Return the memory available to this process and its workers together, bytes.

    Args:
        root: Root of the file system that holds `proc` and `sys`; replaced only in tests.

    Returns:
        The smallest of the memory of the machine and the limit of every enclosing control group; 0
        if the operating system does not report it.
    """
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 0
    limits = [
        _number(folder / name)
        for folder in _groups("memory", root)
        for name in ("memory.max", "memory.limit_in_bytes")
    ]
    return min([total, *(limit for limit in limits if limit is not None)])


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process, bytes; None if it ended or `/proc` is missing."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of all control groups of this process (v1 or v2), innermost first."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        # Version 1 has a folder per set of controllers, version 2 one for all controllers.
        for base in (mounted / names, mounted / controller) if names else (mounted,):
            inner = base / path.lstrip("/")
            yield from (each for each in (inner, *inner.parents) if each.is_relative_to(base))


def _quota(folder: Path) -> float | None:
    """Return the CPU quota of a control group in cores; None if it sets no limit."""
    try:
        words = (folder / "cpu.max").read_text(encoding="ascii").split()
    except OSError:
        words = []
    if len(words) == 2 and all(word.isdigit() for word in words):
        quota, period = map(int, words)
    else:
        quota = _number(folder / "cpu.cfs_quota_us") or 0
        period = _number(folder / "cpu.cfs_period_us") or 0
    return quota / period if quota > 0 and period > 0 else None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # missing, or "max" for no limit
        return None
