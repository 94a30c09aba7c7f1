"""Data loading: input channels, windows, and background processes that render ahead."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from queue import Empty
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, multiprocessing
from torch.nn import functional

from infarct.inference.subvolumes import brain_box
from infarct.lab.networks import DESIGNS
from infarct.lab.training.config import Stage
from infarct.segmentation.measured_lattice import SIDES as SLICE_SIDES
from infarct.segmentation.measured_lattice import brain_box as brain_box_of_slices

if TYPE_CHECKING:
    from infarct.lab.training.stream import Batch, HeadBatch, SliceBatch


Split = Literal["train", "validation"]

SEEDS_APART = 1_000_003
"""Difference between the seeds of parallel streams; the seeds of runs are closer together."""

BRIGHT = 2.0
"""DWI z-score above which tissue outside lesions is sampled more often: most mimics are bright."""


SIDES = 8
"""Divisor of the sides of an input: the designs halve it three times."""


class Source(Protocol):
    """Interface of a stream; see `infarct.lab.training.stream.Stream`."""

    def batches(self) -> Iterator[Batch]:
        """Yield lesion batches endlessly."""

    def head_batches(self) -> Iterator[HeadBatch]:
        """Yield whole heads at 4 mm endlessly."""

    def slice_batches(self) -> Iterator[SliceBatch]:
        """Yield single scans on the lattice of their measured slices endlessly."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that determines the next batch."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""


OpenSource = Callable[[int, Split, str], Source]
"""Opens a stream from (seed, split, device); picklable, because every process opens its own."""


@dataclass(frozen=True)
class Example:
    """A training batch of a network.

    Attributes:
        image: (N, C, X, Y, Z) float32, the channels of its design.
        target: (N, 1, X, Y, Z) float32, 0 or 1: the reference mask.
        brain: Same shape as `target`: brain mask. All ones for a network that segments the brain.
    """

    image: Tensor
    target: Tensor
    brain: Tensor

    def to(self, device: str) -> Example:
        """Return the same on a device."""
        parts = [self.image, self.target, self.brain]
        to_gpu = device.startswith("cuda")
        if to_gpu:
            # Pinned memory makes the copy asynchronous.
            parts = [x if x.is_cuda else x.pin_memory() for x in parts]
        # A copy to the CPU must block, or it would be read before it is complete.
        return Example(*(x.to(device, non_blocking=to_gpu) for x in parts))

    def packed(self) -> Example:
        """Return the same in less than half the memory: image as float16, masks as bool."""
        return Example(self.image.half(), self.target.bool(), self.brain.bool())


def examples(source: Source, network: str) -> Iterator[Example]:
    """Convert the batches of a stream to the inputs of a network.

    Args:
        source: An open stream.
        network: A key of `DESIGNS`.
    """
    design = DESIGNS[network]
    if design.answers == "brain":
        for head in source.head_batches():
            yield Example(head.image, head.brain, torch.ones_like(head.brain))
    elif design.slices:
        for scan in source.slice_batches():
            image = scan.image[:, : len(design.channels)]
            yield crop_slices(Example(image, scan.lesion, scan.brain))
    else:
        for batch in source.batches():
            yield Example(batch.image[:, : len(design.channels)], batch.lesion, batch.brain)


def draw_windows(example: Example, stage: Stage, generator: torch.Generator) -> Tensor:
    """Draw windows: half of them around lesions, the others around bright tissue or anywhere.

    Args:
        example: Whole volumes.
        stage: Number and size of the windows.
        generator: Random generator, on the CPU.

    Returns:
        (N, K, 3) first voxel of each of K windows along (x, y, z).
    """
    lesion = example.target[:, 0].cpu() > 0
    brain = example.brain[:, 0].cpu() > 0
    bright = (example.image[:, 0].cpu() > BRIGHT) & brain & ~lesion
    shape = torch.tensor(lesion.shape[1:])
    window = torch.tensor(stage.window)
    starts = torch.zeros(len(lesion), stage.per_volume, 3, dtype=torch.long)
    for n in range(len(lesion)):
        regions = [m[n].nonzero() for m in (lesion, bright, brain, torch.ones_like(brain))]
        for k in range(stage.per_volume):
            draw = torch.rand(5, generator=generator)
            preferred = 0 if draw[0] < 0.5 else 1 if draw[0] < 0.75 else 2
            voxels = next(region for region in regions[preferred:] if len(region))
            centre = voxels[int(draw[1] * len(voxels))]
            # Jitter by up to a quarter of the window, so that the position carries no information.
            jitter = ((draw[2:] - 0.5) * window / 2).long()
            starts[n, k] = (centre + jitter - window // 2).clamp(min=0).minimum(shape - window)
    return starts


def cut(volume: Tensor, starts: Tensor, window: tuple[int, int, int]) -> Tensor:
    """Crop windows from a batch.

    Args:
        volume: (N, C, X, Y, Z).
        starts: (N, K, 3) from `draw_windows`.
        window: Voxels along (x, y, z).

    Returns:
        (N * K, C, x, y, z).
    """
    (dx, dy, dz) = window
    return torch.stack(
        [
            volume[n, :, x : x + dx, y : y + dy, z : z + dz]
            for n, corners in enumerate(starts.tolist())
            for x, y, z in corners
        ]
    )


def look(
    example: Example,
    stage: Stage,
    generator: torch.Generator,
    least: tuple[int, int, int] = (0, 0, 0),
    slices: bool = False,
) -> Example:
    """Return the windows of a stage, or whole brains if its window covers the whole volume.

    Args:
        example: Whole volumes.
        stage: Number and size of the windows.
        generator: Random generator of the windows.
        least: Sides (x, y, z) of the smallest box for whole brains, voxels.
        slices: Whether the volumes are measured slices, which are never windowed.
    """
    if slices:
        return crop_slices(example, least)
    if all(w >= s for w, s in zip(stage.window, example.image.shape[2:], strict=True)):
        return crop(example, least)
    starts = draw_windows(example, stage, generator)
    parts = (example.image, example.target, example.brain)
    return Example(*(cut(x, starts, stage.window) for x in parts))


def crop(example: Example, least: tuple[int, int, int] = (0, 0, 0)) -> Example:
    """Crop a batch to the box around its brains, as the runtime does.

    Args:
        example: Whole volumes.
        least: Smallest sides (x, y, z) of the box, voxels.
    """
    box = brain_box((example.brain > 0).any(0)[0].cpu().numpy(), SIDES)
    sizes = example.brain.shape[2:]
    x, y, z = (_grown(*part) for part in zip(box, least, sizes, strict=True))
    parts = (example.image, example.target, example.brain)
    return Example(*(part[:, :, x, y, z].contiguous() for part in parts))


def crop_slices(example: Example, least: tuple[int, int, int] = (0, 0, 0)) -> Example:
    """Crop a batch of measured slices to the box around its brains, symmetric about the midplane.

    Args:
        example: Volumes on lattices of one shape, symmetric about the midplane.
        least: Smallest sides (x, y, z) of the box, voxels.
    """
    x, y, z = brain_box_of_slices((example.brain > 0).any(0)[0].cpu().numpy())
    parts = (example.image, example.target, example.brain)
    boxes = [part[:, :, x, y, z] for part in parts]
    slices = -(-boxes[0].shape[-1] // SLICE_SIDES[2]) * SLICE_SIDES[2]
    sizes = (*boxes[0].shape[2:4], slices)
    sides = [max(size, wanted) for size, wanted in zip(sizes, least, strict=True)]
    return Example(*(padded(part, sides).contiguous() for part in boxes))


def padded(volume: Tensor, sides: Sequence[int]) -> Tensor:
    """Pad a batch with zeros, symmetrically along x, so that the midplane stays in the centre.

    Args:
        volume: (N, C, X, Y, Z).
        sides: Target sides along x, y and z, at least those of the volume; along x the difference
            must be even.
    """
    x, y, z = (wanted - size for wanted, size in zip(sides, volume.shape[2:], strict=True))
    return functional.pad(volume, (0, z, 0, y, x // 2, x - x // 2)) if x or y or z else volume


def _grown(part: slice, least: int, size: int) -> slice:
    """Extend a slice of an axis to `least`, alternating between both ends, in steps of `SIDES`."""
    start, stop = part.start, part.stop
    while stop - start < min(least, size):
        grow_up = stop < size and (start == 0 or part.start - start > stop - part.stop)
        start, stop = (start, stop + SIDES) if grow_up else (start - SIDES, stop)
    return slice(start, stop)


@dataclass(frozen=True)
class Order:
    """Stream to open, and the state to continue from.

    Attributes:
        open: Opens the stream.
        network: Network to prepare inputs for, a key of `DESIGNS`.
        seed: Random seed of this process' stream.
        device: Device of the tensors.
        state: State of the stream to continue from; None starts a new one.
        packed: Whether to return compact examples, see `Example.packed`.
    """

    open: OpenSource
    network: str
    seed: int
    device: str
    state: Mapping[str, Any] | None = None
    packed: bool = False


Fed = tuple[Example, dict[str, Any]]
"""An example, and the state of the stream after it."""


def feed(order: Order) -> Generator[Fed, None, None]:
    """Yield examples rendered in this process, each with the state of the stream after it."""
    source = order.open(order.seed, "train", order.device)
    if order.state is not None:
        source.load_state_dict(order.state)
    for example in examples(source, order.network):
        yield example, source.state_dict()


def feed_ahead(order: Order, ahead: int, streams: int = 1) -> Generator[Fed, None, None]:
    """Yield examples rendered in background processes; a single process yields the same as `feed`.

    Each example carries the state of its stream, so that a checkpoint continues after the last
    example used for training, not after the last one rendered. Several processes take strict turns:
    the order does not depend on their speed.

    Args:
        order: Stream of the first process; the seeds of the others follow from its seed.
        ahead: Number of examples that each process prepares in advance.
        streams: Number of processes.

    Yields:
        An example, and the state of the stream after it; with several streams, the states of all
        of them and the index of the next one.
    """
    states: list[Mapping[str, Any] | None] = [order.state] * streams
    turn = 0
    if streams > 1 and order.state is not None:
        states, turn = list(order.state["streams"]), order.state["turn"]
    orders = [
        replace(order, seed=order.seed + SEEDS_APART * k, state=state)
        for k, state in enumerate(states)
    ]
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(maxsize=ahead) for _ in orders]
    processes = [
        context.Process(target=_fill, args=each, daemon=True)
        for each in zip(orders, queues, strict=True)
    ]
    with one_thread_each():
        for process in processes:
            process.start()
    try:
        while True:
            example, state = _take(processes[turn], queues[turn])
            states[turn] = state
            turn = (turn + 1) % streams
            yield example, state if streams == 1 else {"streams": list(states), "turn": turn}
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit processes started in this context to one thread each, in torch and in BLAS.

    BLAS reads the variable when it is loaded, before `torch.set_num_threads` could be called. A
    dozen processes with one thread per core each would slow each other down.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _take(process: Any, queue: Any) -> Fed:
    """Wait for the next example of a process."""
    while True:
        try:
            item = queue.get(timeout=5.0)
        except Empty:
            if process.is_alive():
                continue
            raise RuntimeError(
                f"the stream process ended with exit code {process.exitcode}"
            ) from None
        if isinstance(item, str):
            raise RuntimeError(f"the stream process failed: {item}")
        fed: Fed = item
        return fed


def _ahead_of_others(device: str) -> AbstractContextManager[object]:
    """Give the many small kernels of the simulator priority over the large ones of a network."""
    if not device.startswith("cuda"):
        return nullcontext()
    # Read when CUDA starts, which is now; 0 is a higher priority than that of the training.
    os.environ["CUDA_MPS_CLIENT_PRIORITY"] = "0"
    first = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
    return torch.cuda.stream(first)


def _fill(order: Order, queue: Any) -> None:
    """Body of a background process; examples rendered on a GPU pass through main memory."""
    # Ctrl-C reaches every process of a terminal; the training saves, then terminates this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        with _ahead_of_others(order.device):
            for example, state in feed(order):
                made = example.packed() if order.packed else example
                queue.put((made.to("cpu"), state))
    except Exception as error:
        queue.put(f"{type(error).__name__}: {error}")
        # Earlier examples are still read from this process, so it waits until the training reaches
        # the error and terminates it.
        parent = multiprocessing.parent_process()
        while parent is not None and parent.is_alive():
            time.sleep(1.0)
