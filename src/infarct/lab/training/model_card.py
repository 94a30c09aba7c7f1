"""Model card of a network: description, training data, scores and limitations."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from infarct.lab.networks import DESIGNS, parameters
from infarct.lab.training.checkpoint import Weights
from infarct.lab.training.config import Recipe, to_dict
from infarct.lab.training.log import read_log

LICENCE = "Apache-2.0"
"""Licence of the bundled networks."""

UNDECIDED = "not stated: chosen by whoever trained the network"
"""Licence of your own network until you state one."""

_LIMITS = {
    "lesion": """\
- Trained on {learned_from}: scores on such scans show that training worked, not how accurate the
  network is on patients. For scores on real scans, see the evaluation pages.
- Finds tissue that is bright on DWI and dark on ADC. Abscess, dense tumour, seizure, T2
  shine-through and blood can look the same; late subacute infarcts may not.
- For adult brains, b = 700 - 2500 s/mm^2, slices up to 7 mm. Not a medical device. Do not use it
  for clinical decisions.""",
    "brain": """\
- Trained on synthetic heads of adults with realistic coils and noise. Check the brain mask before
  using any number, especially after craniectomy and with large artefacts.
- Needs the head in MNI space, registered as in `infarct`. Not a medical device.""",
}


@dataclass(frozen=True)
class Facts:
    """Facts about the exported file.

    Attributes:
        file: The ONNX file.
        sha256: SHA-256 of the file.
        difference: Largest difference in probability from torch in float32.
        licence: Licence of the network.
    """

    file: Path
    sha256: str
    difference: float
    licence: str = UNDECIDED


def write(trained: Weights, run: Path, facts: Facts) -> str:
    """Return the model card of a network.

    Args:
        trained: Weights and recipe.
        run: Folder of the run, for its log and data description.
        facts: Facts about the exported file.

    Returns:
        Markdown text.
    """
    recipe, position = trained.recipe, trained.position
    design = DESIGNS[recipe.network]
    count = parameters(trained.network())
    lines = [
        f"# {facts.file.stem}",
        "",
        f"{recipe.network}, {_width(recipe)}{count:,} parameters. "
        f"Input: {', '.join(design.channels)} at {' x '.join(map(str, design.shape))} voxels. "
        f"Output: {design.answers} probability.",
        "",
        f"> {recipe.note}",
        "",
        "| | |",
        "|---|---|",
        f"| file | `{facts.file.name}`, {facts.file.stat().st_size / 1e6:.1f} MB |",
        f"| sha256 | `{facts.sha256}` |",
        f"| licence | {facts.licence} |",
        f"| largest difference from torch | {facts.difference:.1e} (weights stored as float16) |",
        f"| seed | {recipe.seed} |",
        f"| training | {position.seconds:,.0f} s, {position.samples:,} volumes,"
        f" {position.step:,} steps |",
        "",
        "## Scores on validation scans",
        "",
        *_scores(run, facts.file.stem),
        "## Data",
        "",
        (run / "data.md").read_text() if (run / "data.md").is_file() else "Not recorded.\n",
        "## Limits",
        "",
        _LIMITS[design.answers].format(learned_from=learned_from(recipe)),
        "",
        "## Recipe",
        "",
        "```json",
        json.dumps(to_dict(without_folders(recipe)), indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def without_folders(recipe: Recipe) -> Recipe:
    """Reduce the paths in a recipe to their last part; folders may name people and machines."""
    return replace(
        recipe,
        start=Path(recipe.start).name,
        cases=replace(recipe.cases, folder=Path(recipe.cases.folder).name),
        validation=replace(recipe.validation, cases=Path(recipe.validation.cases).name),
    )


def learned_from(recipe: Recipe) -> str:
    """Name the training scans of a recipe; only lesion networks use real cases."""
    real = recipe.cases.folder and DESIGNS[recipe.network].answers == "lesion"
    return "synthetic scans and real cases" if real else "synthetic scans"


def _width(recipe: Recipe) -> str:
    features = recipe.features or DESIGNS[recipe.network].features
    return f"{features} features at the first level, " if features else ""


def _scores(run: Path, stem: str) -> list[str]:
    """Return the last scores of the log and the name of its curve, as lines."""
    rows = read_log(run / "log.csv") if (run / "log.csv").is_file() else []
    scored = [row for row in rows if row["validation_dice"] or row.get("real_dice")]
    if not scored:
        return ["Not scored.", ""]
    last = scored[-1]
    dice, false, real = (last.get(n) for n in ("validation_dice", "false_voxels", "real_dice"))
    sentences = []
    if dice:
        best = max(float(row["validation_dice"] or -1) for row in scored)
        sentences.append(f"Dice {dice} at the end (best {best:.3f}).")
    if false and false != "nan":
        sentences.append(f"False-positive voxels per lesion-free sample: {false}.")
    if real:
        sentences.append(f"Dice {real} on real cases not used for training.")
    return [
        " ".join(sentences),
        "",
        f"![loss and Dice over time]({stem}.png)",
        "",
    ]
