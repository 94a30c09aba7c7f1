"""`infarct evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    reference: Annotated[Path, typer.Option(help="Folder of reference masks.")],
    prediction: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=DIR", help="Name of a tool and folder of its masks; repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output folder; it is created.")],
    dwi: Annotated[
        Path | None, typer.Option(help="Folder of DWI, for lesion contrast and the gallery.")
    ] = None,
    adc: Annotated[
        Path | None, typer.Option(help="Folder of ADC maps, for lesion contrast.")
    ] = None,
    brain: Annotated[Path | None, typer.Option(help="Folder of brain masks.")] = None,
    subjects: Annotated[
        Path | None,
        typer.Option(help="Table of subjects (TSV): cohort, territory, sex, scanner, ..."),
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(help="Table of computing costs: tool, parameters, seconds, memory_gb."),
    ] = None,
    rater: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help="Name of a human rater and folder of their masks; repeatable. Repeat a name for a "
            "second reading.",
        ),
    ] = None,
    focus: Annotated[
        str | None, typer.Option(help="Restrict the stratified analyses to this cohort.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Which mask to use if a subject has several, e.g. lesionAcute."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes. Default: one per core.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing evaluation in OUT.")] = False,
) -> None:
    """Score the masks of any tool against reference masks, with all metrics of the paper."""
    from infarct.cli.console import live_evaluation, show_evaluation
    from infarct.evaluation import EvaluationRequest
    from infarct.evaluation import evaluate as evaluate_masks

    named = _named_folders(prediction, "tool", "cfuzzy=results")
    predictions = dict(named)
    if len(predictions) < len(named):
        raise typer.BadParameter("each --prediction needs a unique name")
    request = EvaluationRequest(
        reference,
        predictions,
        out,
        dwi=dwi,
        adc=adc,
        brain=brain,
        subjects=subjects,
        costs=costs,
        raters=tuple(_named_folders(rater or [], "rater", "anna=masks-anna")),
        focus=focus,
        label=label,
        seed=seed,
        workers=workers,
        overwrite=overwrite,
    )
    with live_evaluation() as progress:
        result = evaluate_masks(request, progress)
    show_evaluation(result)


def _named_folders(pairs: list[str], what: str, example: str) -> list[tuple[str, Path]]:
    named = [pair.split("=", 1) for pair in pairs]
    if any(len(pair) != 2 or not all(pair) for pair in named):
        raise typer.BadParameter(f"expected each {what} as NAME=DIR, for example {example}")
    return [(name, Path(folder)) for name, folder in named]
