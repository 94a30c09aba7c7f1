"""Distributed training in several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed


@dataclass(frozen=True)
class Team:
    """The training processes: one, unless `torchrun` started more.

    Attributes:
        rank: Number of this process; 0 writes all files.
        size: Number of processes.
        device: Device of this process.
    """

    rank: int
    size: int
    device: str

    def agree(self, value: float) -> float:
        """Return the value of the first process in all processes, so that they decide alike."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, 0)
        return float(shared)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes in all processes, ordered by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values


@contextmanager
def join_team() -> Iterator[Team]:
    """Join the process group if `torchrun` started this process."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.backends.cudnn.benchmark = True  # volumes have one or two sizes
        torch.set_float32_matmul_precision("high")
    if "RANK" not in os.environ:
        yield Team(0, 1, "cuda" if gpu else "cpu")
        return
    local = int(os.environ["LOCAL_RANK"])
    if gpu:
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if gpu else "gloo")
    try:
        device = f"cuda:{local}" if gpu else "cpu"
        yield Team(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()
