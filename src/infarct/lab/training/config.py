"""Settings of a training run, read from one TOML file.

Recipe, seed and data determine a run completely. An unknown key is an error: silently ignoring a
misspelt setting would waste a training run.
"""

from __future__ import annotations

import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from infarct.core.errors import InputFileError
from infarct.inference.subvolumes import PHASES
from infarct.lab.networks import DESIGNS, SHAPE
from infarct.lab.training.losses import LossSettings

Settings = TypeVar("Settings")

PACKAGED = Path(__file__).parent / "recipes"
"""Bundled recipes; `infarct lab train NAME` finds them by name."""


_LARGEST = 1e9
"""Default upper limit of every setting; the default lower limit is 0. Tighter ranges follow."""

_TINY = 1e-12
_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("batch", "epoch", "epochs", "validation.every", "device.streams"), (1, 1e9)),
    **dict.fromkeys(("device.ahead", "shelf.reuse", "rate.patience"), (1, 1e9)),
    **dict.fromkeys(("stages.per_volume", "stream.batch"), (1, 1e6)),
    **dict.fromkeys(("ema", "rate.warmup", "cases.share", "loss.balance"), (0, 1)),
    **dict.fromkeys(("stream.lesion_free", "stream.real_background"), (0, 1)),
    **{"seed": (0, 2**63 - 1), "features": (0, 4096), "rate.peak": (_TINY, 10)},
    **{"rate.factor": (_TINY, 1), "rate.floor": (0, 10), "rate.weight_decay": (0, 10)},
    **{"stages.until": (_TINY, 1), "stages.window": (8, 4096), "minutes": (0, 1e7)},
    **{"stream.phases_per_volume": (1, len(PHASES))},
}
"""Lowest and highest value of each number; NaN is outside every range."""


@dataclass(frozen=True)
class RateSettings:
    """Learning rate schedule; the defaults are the paper's.

    Attributes:
        peak: Highest learning rate of Adam.
        schedule: "plateau" multiplies by `factor` when the validation loss has not decreased for
            `patience` validations; "cosine" increases during `warmup` and decreases to zero at the
            end of the run; "steps" multiplies by `factor` after each epoch in `drops`.
        factor: Factor of one reduction, for "plateau" and "steps".
        patience: Validations without improvement before a reduction, see
            `ValidationSettings.every`.
        floor: Lowest learning rate of "plateau" and "steps".
        drops: Epochs after which "steps" lowers the rate; set by `infarct lab final`.
        warmup: Fraction of a cosine run used for warm-up.
        weight_decay: Weight decay of AdamW; 0 is plain Adam.
        clip: Largest gradient norm; 0 disables clipping.
    """

    peak: float = 3e-4
    schedule: Literal["plateau", "cosine", "steps"] = "plateau"
    factor: float = 0.5
    patience: int = 5
    floor: float = 1e-5
    warmup: float = 0.02
    weight_decay: float = 0.0
    clip: float = 0.0
    drops: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stage:
    """Window size during one part of the run.

    Attributes:
        until: Fraction of the run at which the stage ends, in 0 - 1; the last stage ends at 1.
        window: Voxels (x, y, z) cropped from every volume; each divisible by 8.
        per_volume: Number of windows cropped from each volume: half of them around a lesion, the
            others around bright tissue outside lesions or anywhere in the brain.
    """

    until: float = 1.0
    window: tuple[int, int, int] = SHAPE
    per_volume: int = 1


@dataclass(frozen=True)
class ValidationSettings:
    """Validation on a fixed synthetic set and, optionally, on real cases.

    Attributes:
        samples: Size of the synthetic set; 0 trains without one and keeps no best weights.
        cases: Folder of prepared real cases, see `infarct lab prepare-cases`, scored in addition;
            empty for none. They are used neither for training nor for selecting weights.
        every: Epochs between two validations.
        snapshot_every: Epochs between two snapshots; 0 keeps only the best and last weights.
        stop_after: First epoch at which early stopping is allowed, by the scores on the synthetic
            set; 0 disables early stopping.
        stop_patience: Epochs without a lower validation loss before an early stop; epochs since
            the last validation do not count.
    """

    samples: int = 32
    cases: str = ""
    every: int = 1
    snapshot_every: int = 0
    stop_after: int = 0
    stop_patience: int = 10


@dataclass(frozen=True)
class DeviceSettings:
    """Hardware settings; they change the result only by rounding.

    Attributes:
        precision: Precision of the forward pass; losses, weights and running means stay float32.
        channels_last: Whether to use the memory order that tensor cores prefer.
        compile: Whether to compile the network with torch; worthwhile on a GPU for runs longer
            than some minutes.
        second_process: Whether the stream runs in separate processes; otherwise the training
            process renders, on the training device.
        streams: Number of stream processes.
        render_on: Device of the stream processes: "cpu", or the "gpu" used for training.
        ahead: Number of batches that each stream process prepares in advance.
        box: Smallest box (x, y, z voxels) around whole brains; a GPU selects its algorithms anew
            for every new size.
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    second_process: bool = False
    streams: int = 1
    render_on: Literal["cpu", "gpu"] = "cpu"
    ahead: int = 4
    box: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True)
class ShelfSettings:
    """Replay buffer, for machines on which rendering is slower than training.

    Attributes:
        size: Number of volumes in the buffer, at least one batch; 0 uses every volume once.
        reuse: Average number of times each volume is used.
    """

    size: int = 0
    reuse: int = 4


@dataclass(frozen=True)
class CasesSettings:
    """Real cases with lesion masks that are mixed into the stream (optional).

    Attributes:
        folder: Folder of prepared cases, see `infarct lab prepare-cases`; empty for none.
        share: Fraction of the samples taken from the folder.
        validation: Fraction of the patients held out at random. Only their scores then determine
            the learning rate, early stopping and the best weights.
        split: Random seed of the split.
    """

    folder: str = ""
    share: float = 0.5
    validation: float = 0.0
    split: int = 0


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        network: A key of `networks.DESIGNS`.
        features: Number of features of its first level; 0 for the default of the design.
        seed: Random seed of weights, windows and stream.
        batch: Volumes per step and device.
        epoch: Volumes per epoch, counting repeated use; the stream is endless.
        epochs: Maximum number of epochs.
        minutes: Time limit in minutes; 0 for no limit. Epochs or minutes, whichever ends first,
            define the length of the run, to which stages and the cosine schedule refer.
        ema: Decay per step of the exponential moving average of the weights; 0 disables it.
        start: Initial weights: the weights file of another run of the same network, or the name of
            a bundled network; empty for random weights. A CH2 network may start from its CH3
            variant, and a wide network from a narrower one of the same design, see `widening`.
        note: Purpose of the run; copied to the model card.
        rate: Learning rate schedule.
        loss: Weights of the loss terms.
        stages: Training stages, in the order of `until`.
        validation: Validation, snapshots and early stopping.
        device: Precision and processes.
        shelf: Replay buffer.
        cases: Real cases to mix in.
        stream: Settings of the synthetic stream that differ from its defaults.
    """

    network: str
    features: int = 0
    seed: int = 0
    batch: int = 4
    epoch: int = 400
    epochs: int = 200
    minutes: float = 0.0
    ema: float = 0.0
    start: str = ""
    note: str = ""
    rate: RateSettings = field(default_factory=RateSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    stages: tuple[Stage, ...] = (Stage(),)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    device: DeviceSettings = field(default_factory=DeviceSettings)
    shelf: ShelfSettings = field(default_factory=ShelfSettings)
    cases: CasesSettings = field(default_factory=CasesSettings)
    stream: Mapping[str, Any] = field(default_factory=dict)

    def stage(self, progress: float) -> Stage:
        """Return the stage at a fraction (0 - 1) of the run."""
        return next((s for s in self.stages if progress < s.until), self.stages[-1])


def read(source: Path | str) -> Recipe:
    """Read a recipe.

    Args:
        source: A TOML file, or the name of a bundled recipe.

    Raises:
        InputFileError: If the file does not exist or is not valid TOML, or a key or value is
            invalid.
    """
    path = Path(source)
    if not path.is_file():
        path = PACKAGED / f"{source}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PACKAGED.glob("*.toml")))
        raise InputFileError(f"{source}: recipe not found; give a TOML file or one of {known}")
    try:
        return _checked(parse(Recipe, tomllib.loads(path.read_text(encoding="utf-8"))))
    except RecursionError as error:
        raise InputFileError(f"{path}: nested too deeply; a recipe has two levels") from error
    except (ValueError, OSError) as error:
        raise InputFileError(f"{path}: {error}") from error


def _checked(recipe: Recipe) -> Recipe:
    """Return the recipe after checking that its settings are consistent.

    Raises:
        ValueError: If a run with these settings is impossible.
    """
    # Imported here: networks can be exported and measured without the simulator.
    from infarct.lab.training.stream import StreamSettings  # noqa: PLC0415

    shelf = recipe.shelf
    _check_ranges(recipe, "")
    _check_ranges(parse(StreamSettings, recipe.stream, "stream."), "stream.")
    for stage in recipe.stages:
        if any(size % 8 for size in stage.window):
            raise ValueError(f"stages.window = {list(stage.window)}: must be divisible by 8")
    ends = [stage.until for stage in recipe.stages]
    if not ends or ends != sorted(set(ends)) or ends[-1] != 1:
        raise ValueError(f"stages.until = {ends}: must increase and end at 1")
    if recipe.rate.schedule == "plateau" and recipe.rate.floor > recipe.rate.peak:
        raise ValueError(f"rate.floor = {recipe.rate.floor} is above rate.peak")
    if recipe.network not in DESIGNS:
        raise ValueError(f"network = {recipe.network!r}: choose from {', '.join(DESIGNS)}")
    if shelf.size and shelf.size < recipe.batch:
        raise ValueError(f"shelf.size = {shelf.size} is smaller than batch = {recipe.batch}")
    if DESIGNS[recipe.network].slices and not shelf.size and recipe.batch > 1:
        raise ValueError(
            f"batch = {recipe.batch} without a shelf: scans differ in their number of slices and "
            "only a shelf can group similar ones; set shelf.size, or batch = 1"
        )
    if DESIGNS[recipe.network].slices and recipe.cases.folder:
        raise ValueError(f"{recipe.network} cannot use prepared cases; remove [cases]")
    if recipe.cases.validation >= 1:
        raise ValueError(
            f"cases.validation = {recipe.cases.validation} leaves no patients to train on; set it "
            "below 1"
        )
    if recipe.cases.validation and recipe.validation.cases:
        raise ValueError("give either cases.validation or validation.cases, not both")
    return recipe


def _check_ranges(settings: Any, where: str) -> None:
    """Check every number of a dataclass, and of nested dataclasses, against its range.

    Raises:
        ValueError: If a number is outside its range, or not finite.
    """
    for each in fields(settings):
        value, name = getattr(settings, each.name), f"{where}{each.name}"
        parts = value if isinstance(value, tuple) else (value,)
        low, high = _RANGES.get(name, (0.0, _LARGEST))
        for part in parts:
            if is_dataclass(part):
                _check_ranges(part, f"{name}.")
                continue
            number = isinstance(part, int | float) and not isinstance(part, bool)
            if number and not low <= part <= high:
                raise ValueError(f"{name} = {_short(part)}: must be in {low:g} - {high:g}")


def changed(recipe: Recipe, minutes: float | None, validate_on: Path | str | None) -> Recipe:
    """Return a recipe with the settings given on the command line.

    Args:
        recipe: The recipe as read.
        minutes: Length of the run, 0 for no limit; None keeps the recipe's.
        validate_on: Folder of prepared real cases; None keeps the recipe's.
    """
    if minutes is not None:
        recipe = replace(recipe, minutes=minutes)
    if validate_on:
        validation = replace(recipe.validation, cases=str(validate_on))
        recipe = replace(recipe, validation=validation)
    return recipe


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain values, including defaults; `parse` is the inverse."""
    return asdict(recipe)


def parse(kind: type[Settings], table: Mapping[str, Any], where: str = "") -> Settings:
    """Make a frozen dataclass from a table, checking every key and type.

    Args:
        kind: The dataclass.
        table: The parsed TOML table.
        where: Name of the table, for messages.

    Raises:
        ValueError: If a key is unknown or missing, or a value has the wrong type.
    """
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"unknown key {where}{unknown[0]}; choose from {', '.join(known)}")
    missing = [
        f.name
        for f in known.values()
        if f.name not in table and f.default is MISSING and f.default_factory is MISSING
    ]
    if missing:
        raise ValueError(f"missing key {where}{missing[0]}")
    return kind(**{key: _value(hints[key], v, f"{where}{key}") for key, v in table.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """Convert `value` to the annotated type `hint`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return parse(hint, value, f"{where}.")
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_value(k, v, where) for k, v in zip(kinds, value, strict=True))
    if origin in (Union, types.UnionType):
        return value if value is None else _value(arguments[0], value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        # An integer of hundreds of digits overflows a float; the range check rejects it later.
        return float(max(min(value, 10**300), -(10**300)))
    plain = origin or hint
    if (
        isinstance(plain, type)
        and isinstance(value, plain)
        and isinstance(value, bool) == (plain is bool)
    ):
        return value
    raise ValueError(f"{where} = {_short(value)}: must be {getattr(hint, '__name__', hint)}")


def _short(value: Any) -> str:
    """Format a value for a message; nested values may be too deep or too long to print."""
    plain = isinstance(value, str | int | float)
    text = repr(value) if plain else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."
