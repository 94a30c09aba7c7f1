"""The page that goes with a network: what it is, what it was made from, what not to expect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from infarct.lab.networks import DESIGNS, parameters
from infarct.lab.training.checkpoint import Weights
from infarct.lab.training.config import Recipe, to_dict
from infarct.lab.training.log import read_log

LICENCE = "Apache-2.0"

_LIMITS = {
    "lesion": """\
- Trained on {learned_from}: its scores on them say that training worked, not how it does on
  patients. Scores on real scans are in the evaluation pages, where there are any.
- Finds what is bright on DWI and dark on ADC. Abscess, dense tumour, seizure, T2 shine-through and
  blood can look like that; late subacute infarcts may not.
- For adult brains, b = 700 - 2500 s/mm^2, slices up to 7 mm. No medical device; never the only
  ground for a decision about a patient.""",
    "brain": """\
- Trained on synthetic heads of adults with realistic coils and noise. Look at the outline before
  using a number, above all after craniectomy and with large artefacts.
- Needs the head in MNI space, as `infarct` brings it there. No medical device.""",
}


@dataclass(frozen=True)
class Facts:
    """What is known of a network only once it is a file.

    Attributes:
        file: The ONNX file.
        sha256: Its digest.
        difference: Largest difference of probability from torch in float32.
    """

    file: Path
    sha256: str
    difference: float


def write(trained: Weights, run: Path, facts: Facts) -> str:
    """Write the card of a network.

    Args:
        trained: Its weights and recipe.
        run: Folder of its run, for log and data.
        facts: Of the file.

    Returns:
        Markdown.
    """
    recipe, position = trained.recipe, trained.position
    design = DESIGNS[recipe.network]
    count = parameters(trained.network())
    lines = [
        f"# {facts.file.stem}",
        "",
        f"{recipe.network}, {_width(recipe)}{count:,} parameters. "
        f"Reads {', '.join(design.channels)} at {' x '.join(map(str, design.shape))} voxels, "
        f"answers where the {design.answers} is.",
        "",
        f"> {recipe.note}",
        "",
        "| | |",
        "|---|---|",
        f"| file | `{facts.file.name}`, {facts.file.stat().st_size / 1e6:.1f} MB |",
        f"| sha256 | `{facts.sha256}` |",
        f"| licence | {LICENCE} |",
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
        json.dumps(to_dict(recipe), indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def learned_from(recipe: Recipe) -> str:
    """Name the scans a recipe learns from; real cases only serve networks that seek lesions."""
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
        return ["None were taken.", ""]
    last = scored[-1]
    dice, false, real = (last.get(n) for n in ("validation_dice", "false_voxels", "real_dice"))
    said = []
    if dice:
        best = max(float(row["validation_dice"] or -1) for row in scored)
        said.append(f"Dice {dice} at the end (best {best:.3f}).")
    if false and false != "nan":
        said.append(f"Where there is nothing, {false} voxels are outlined.")
    if real:
        said.append(f"On real cases that it did not learn from: Dice {real}.")
    return [
        " ".join(said),
        "",
        f"![loss and Dice over time]({stem}.png)",
        "",
    ]
