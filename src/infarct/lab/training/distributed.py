"""The processes that train one network together."""

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
    """Who trains; one process, unless `torchrun` started more.

    Attributes:
        rank: This process' number; 0 writes all files.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: str

    def agree(self, value: float) -> float:
        """Return the first process' value to all: clocks differ, decisions must not."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, 0)
        return float(shared)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes to all, in the order of their numbers."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values


@contextmanager
def join_team() -> Iterator[Team]:
    """Find out whether `torchrun` started this process, and meet the others."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.backends.cudnn.benchmark = True  # volumes come in one or two sizes: time it once
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
