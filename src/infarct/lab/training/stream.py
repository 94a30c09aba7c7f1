"""Endless, seeded stream of simulated training samples, on CPU and GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from infarct.core.diffusion import Image
from infarct.inference.subvolumes import PHASES, STRIDE
from infarct.lab.simulation import acquisition, sampling, scanner, tissue
from infarct.lab.simulation.cohort import Cohort, load_cohort
from infarct.lab.simulation.scanner import SimulatedScan
from infarct.lab.sources.bank import Bank, Split
from infarct.lab.training import torch_features
from infarct.lab.training.torch_features import HealthyTensors
from infarct.segmentation.classical import Healthy
from infarct.segmentation.measured_lattice import spacing_value

HEAD_STEP = 4
"""mm; the brain-mask network reads the mean of blocks of 4 x 4 x 4 voxels."""

SMALLEST_BRAIN = 100_000
"""Voxels; scans with a smaller brain (a slab at the edge of the head) are skipped."""


@dataclass(frozen=True)
class StreamSettings:
    """Settings of a stream.

    Attributes:
        batch: Samples per batch.
        split: Split of the anatomies, lesions and backgrounds.
        cohort: Name of the simulated cohort.
        phases_per_volume: Number of sub-volumes taken from each scan, 1 - 16.
        lesion_free: Fraction of scans without an acute infarct; None uses the cohort's.
        real_background: Fraction of scans with a real background; None uses the cohort's.
        leave_out: Names of real backgrounds to exclude.
        mimics: Whether to simulate mimics.
        artefacts: Whether to simulate artefacts.
    """

    batch: int = 4
    split: Split = "train"
    cohort: str = "training"
    phases_per_volume: int = 4
    lesion_free: float | None = None
    real_background: float | None = None
    leave_out: tuple[str, ...] = ()
    mimics: bool = True
    artefacts: bool = True


@dataclass(frozen=True)
class Batch:
    """Sub-volumes for the lesion networks.

    Attributes:
        image: (N, 3, 96, 112, 48) float32: DWI and ADC z-scored in the brain, IS map unscaled; 0
            outside the brain.
        lesion: (N, 1, 96, 112, 48) float32, 0 or 1.
        brain: (N, 1, 96, 112, 48) float32, 0 or 1; imperfect, like the output of skull-stripping.
    """

    image: torch.Tensor
    lesion: torch.Tensor
    brain: torch.Tensor


@dataclass(frozen=True)
class SliceBatch:
    """One scan for the networks that read measured slices.

    Attributes:
        image: (1, 4, 192, 224, K) float32: DWI and ADC z-scored in the brain, IS map unscaled, and
            the slice spacing from `measured_lattice.spacing_value`; 0 outside the brain.
        lesion: (1, 1, 192, 224, K) float32, 0 or 1.
        brain: Same shape and values; imperfect, like the output of skull-stripping.
    """

    image: torch.Tensor
    lesion: torch.Tensor
    brain: torch.Tensor


@dataclass(frozen=True)
class HeadBatch:
    """Whole heads at 4 mm for the brain-mask network.

    Attributes:
        image: (N, 2, 48, 56, 48) float32: DWI and b0, z-scored over the volume.
        brain: (N, 1, 48, 56, 48) float32, 0 or 1; the true brain mask.
    """

    image: torch.Tensor
    brain: torch.Tensor


class Stream:
    """Stream of simulated scans. Two counters define its state, so it resumes exactly.

    Args:
        bank: Anatomies, lesions and backgrounds to draw from.
        settings: Settings of the stream.
        seed: Random seed of the scans.
        device: Device to compute on.
    """

    def __init__(
        self, bank: Bank, settings: StreamSettings, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.bank = bank.without_backgrounds(settings.leave_out)
        self.settings = settings
        self.cohort = _cohort(settings)
        self.seed = seed
        self.device = torch.device(device)
        self.scans = 0
        self.taken = 0
        self._healthy: HealthyTensors | None = None

    def batches(self) -> Iterator[Batch]:
        """Yield lesion batches endlessly."""
        samples = self._samples()
        while True:
            drawn = [next(samples) for _ in range(self.settings.batch)]
            image, lesion, brain = (torch.stack(parts) for parts in zip(*drawn, strict=True))
            yield Batch(image, lesion, brain)

    def slice_batches(self) -> Iterator[SliceBatch]:
        """Yield single scans on the lattice of their measured slices endlessly."""
        while True:
            index, self.scans = self.scans, self.scans + 1
            record = sampling.draw(self.cohort, self.bank, self.seed, index)
            native = scanner.acquire(tissue.build(record, self.bank, self.device), record)
            scan = scanner.on_slices(native)
            spacing = record.acquisition.spacing_mm
            if float(scan.brain.sum()) * spacing < SMALLEST_BRAIN:
                continue
            lattice = acquisition.slice_lattice(record.acquisition)
            healthy = torch_features.healthy_on_slices(self._statistics, lattice)
            image = network_input(scan, HealthyTensors.of(healthy, self.device))
            spaced = scan.brain[None] * spacing_value(spacing)
            lesion = (scan.lesion & scan.brain)[None, None].float()
            yield SliceBatch(
                torch.cat([image, spaced])[None], lesion, scan.brain[None, None].float()
            )

    @cached_property
    def _statistics(self) -> Mapping[str, Image]:
        return statistics_of(self.bank)

    def head_batches(self) -> Iterator[HeadBatch]:
        """Yield whole heads at 4 mm endlessly."""
        while True:
            drawn: list[tuple[torch.Tensor, torch.Tensor]] = []
            while len(drawn) < self.settings.batch:
                scan = self.scan(self.scans, with_background=False)
                self.scans += 1
                if int(scan.true_brain.sum()) >= SMALLEST_BRAIN:
                    drawn.append(head_sample(scan))
            images, brains = zip(*drawn, strict=True)
            yield HeadBatch(torch.stack(images), torch.stack(brains))

    def scan(self, index: int, *, with_background: bool = True) -> SimulatedScan:
        """Render the scan with this index.

        Args:
            index: Index of the scan in the stream.
            with_background: Whether real backgrounds are allowed; they have no exact brain mask.
        """
        record = sampling.draw(self.cohort, self.bank, self.seed, index)
        if not with_background:
            record = replace(record, background="")
        return scanner.render(record, self.bank, self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that determines the next sample."""
        return {"seed": self.seed, "scans": self.scans, "taken": self.taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; the same samples follow."""
        self.seed, self.scans, self.taken = state["seed"], state["scans"], state["taken"]

    def _samples(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield image, lesion and brain of single sub-volumes."""
        if self._healthy is None:
            self._healthy = HealthyTensors.of(_healthy(self.bank), self.device)
        while True:
            scan = self.scan(self.scans)
            if int(scan.brain.sum()) < SMALLEST_BRAIN:
                self.scans += 1
                continue
            image = network_input(scan, self._healthy)
            # The network cannot see what the brain mask has removed.
            lesion = scan.lesion & scan.brain
            # The choice of sub-volumes depends only on the scan, so a resumed stream repeats it.
            rng = np.random.default_rng([self.seed, self.scans, 2])
            order = rng.permutation(len(PHASES))[: self.settings.phases_per_volume]
            while self.taken < len(order):
                phase = int(order[self.taken])
                self.taken += 1
                yield (
                    sub_volume(image, phase),
                    sub_volume(lesion[None].float(), phase),
                    sub_volume(scan.brain[None].float(), phase),
                )
            self.scans, self.taken = self.scans + 1, 0


def _healthy(bank: Bank) -> Healthy:
    """Return the healthy statistics of the bank, or those of the package if it has none."""
    if bank.healthy:
        return torch_features.healthy_at_1mm(bank.healthy)
    from infarct.segmentation.controls import load_healthy  # noqa: PLC0415 - not where only a bank travels

    return load_healthy()


def statistics_of(bank: Bank) -> Mapping[str, Image]:
    """Return the healthy statistics, (96, 112, 96) each, of the bank or else of the package."""
    if bank.healthy:
        return bank.healthy
    from infarct.segmentation.controls import healthy_statistics  # noqa: PLC0415 - as above

    return {name: volume.data for name, volume in healthy_statistics().items()}


def _cohort(settings: StreamSettings) -> Cohort:
    """Return the cohort with the changes of the settings applied."""
    cohort = replace(load_cohort(settings.cohort), split=settings.split)
    if settings.lesion_free is not None:
        cohort = replace(cohort, lesion_free=settings.lesion_free)
    if settings.real_background is not None:
        cohort = replace(cohort, real_background=settings.real_background)
    return replace(
        cohort,
        mimics=cohort.mimics if settings.mimics else 0.0,
        artefacts=cohort.artefacts if settings.artefacts else 0.0,
    )


def sub_volume(volume: torch.Tensor, phase: int) -> torch.Tensor:
    """Return one of the 16 interleaved sub-volumes, as `subvolumes.split` orders them."""
    offsets = zip(PHASES[phase], STRIDE, strict=True)
    x, y, z = (slice(offset, None, step) for offset, step in offsets)
    return volume[..., x, y, z].contiguous()


def network_input(scan: SimulatedScan, healthy: HealthyTensors) -> torch.Tensor:
    """Return the input of the lesion networks.

    Args:
        scan: Scan on the MNI grid, or on the lattice of its slices.
        healthy: Healthy statistics on the same grid, for the IS map.

    Returns:
        (3, X, Y, Z) float32: DWI and ADC z-scored in the brain, IS map unscaled.
    """
    # Computed in the box of the brain only: it contains half the volume.
    box = torch_features.box(scan.brain)
    brain = scan.brain[box]
    normalised = []
    for image in (scan.dwi[box], scan.adc[box]):
        peak = torch_features.tissue_peak(image, brain)
        normalised.append((image - peak.mean) / peak.sd)
    dwi, adc = normalised
    whole = torch.zeros((3, *scan.brain.shape), device=brain.device)
    whole[0][box] = torch_features.zscore(dwi, brain)
    whole[1][box] = torch_features.zscore(adc, brain)
    whole[2][box] = torch_features.is_map(dwi, adc, brain, healthy.cut(box))
    return whole


def head_sample(scan: SimulatedScan) -> tuple[torch.Tensor, torch.Tensor]:
    """Return image (2, 48, 56, 48) and brain (1, 48, 56, 48) for the brain-mask network."""

    def blocks(image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool3d(image.float()[None], HEAD_STEP)

    images = torch.cat([blocks(scan.dwi), blocks(scan.b0)])
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    sd = images.std(dim=(1, 2, 3), keepdim=True, correction=0).clamp(min=1e-12)
    return (images - mean) / sd, (blocks(scan.true_brain) > 0.5).float()
