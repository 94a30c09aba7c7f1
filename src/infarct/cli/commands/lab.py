"""Commands of the lab: `infarct lab ...`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infarct.core.process_setup import check_printed

if TYPE_CHECKING:
    from infarct.lab.training.config import Recipe

app = typer.Typer(no_args_is_help=True)


@app.callback()
def lab() -> None:
    """Simulate scans; train, calibrate and export networks.

    To train your own network, begin with a rehearsal of two minutes:

    \b
    1. infarct lab bank --data DATA --out bank.npz
    2. infarct lab synth --bank bank.npz --n 2 --out synthetic
    3. infarct lab train rehearsal --bank bank.npz --out runs/rehearsal
    4. infarct lab score runs/rehearsal --bank bank.npz
    5. infarct lab export runs/rehearsal/weights.pt
    6. INFARCT_MODELS=runs/rehearsal/export infarct segment --model rehearsal ...
    """  # noqa: D301 - click reads the backspace


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="Output folder for the cases.")],
    n: Annotated[int, typer.Option(min=1, help="Number of cases.")] = 20,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed; the same seed gives the same cases.")
    ] = 0,
    cohort: Annotated[str, typer.Option(help="Name of the simulated cohort.")] = "training",
    bank: Annotated[
        Path | None,
        typer.Option(help="Bank written by `infarct lab bank`. Default: the ICBM brain only."),
    ] = None,
) -> None:
    """Write synthetic cases in the form a scanner saves them."""
    from infarct.lab.simulation.cohort import load_cohort
    from infarct.lab.simulation.write_cases import synthesise
    from infarct.lab.sources.bank import Bank

    source = Bank.load(bank) if bank else Bank.from_icbm()
    for folder in synthesise(load_cohort(cohort), source, n, seed, out):
        typer.echo(folder)
    typer.echo("next: infarct segment --dwi CASE/dwi.nii.gz --b0 CASE/b0.nii.gz --out RESULT")


@app.command()
def templates(
    normals: Annotated[
        Path | None,
        typer.Option(help="Folder of real lesion-free scans: NAME/NAME_{dwi,b0,adc}.nii.gz."),
    ] = None,
    bank: Annotated[
        Path | None,
        typer.Option(help="Bank written by `infarct lab bank`, for the synthetic scans."),
    ] = None,
    synthetic: Annotated[int, typer.Option(min=0, help="Number of synthetic scans to add.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the synthetic scans.")] = 0,
    fwhm: Annotated[
        list[float] | None,
        typer.Option(
            help="Smoothing (FWHM) of the healthy statistics in voxels; may be repeated. "
            "Default: 2 (c-fuzzy) and 4 (t-score)."
        ),
    ] = None,
) -> None:
    """Rebuild the bundled b0 template and healthy statistics."""
    from rich.progress import track

    from infarct.lab.simulation.controls import lesion_free_scans
    from infarct.lab.sources.bank import Bank
    from infarct.lab.sources.templates import SHIPPED_FWHM, build

    source = Bank.load(bank) if bank else Bank.from_icbm()
    scans = track(lesion_free_scans(source, synthetic, seed), "scans", total=synthetic)
    names = build(normals, scans, synthetic, fwhm or SHIPPED_FWHM)
    typer.echo(f"built from {len(names)} lesion-free scans")


@app.command()
def recover(
    name: Annotated[str, typer.Argument(help="Name of a bundled network, such as FCN_CH2_brief.")],
    features: Annotated[int, typer.Option(help="Number of features of its first level.")],
    bank: Annotated[Path, typer.Option(help="Bank written by `infarct lab bank`.")],
    out: Annotated[Path, typer.Option(help="Output file (.pt).")],
    scans: Annotated[
        int, typer.Option(min=1, help="Number of synthetic scans for the batch statistics.")
    ] = 12,
) -> None:
    """Recover the trainable weights of an ONNX network."""
    from infarct.cli.console import busy
    from infarct.lab.training.from_onnx import recover_weights

    with busy("recovering the weights"):
        recover_weights(name, features, bank, scans, out)
    typer.echo(out)


@app.command()
def regions(
    anatomies: Annotated[Path, typer.Option(help="Folder of whole heads with FreeSurfer labels.")],
) -> None:
    """Rebuild the bundled map of regions. Rebuild the territories afterwards; they depend on it."""
    from infarct.cli.console import busy
    from infarct.lab.atlases.regions import build

    with busy("building the map of regions"):
        written = build(anatomies)
    typer.echo(written)
    typer.echo("next: infarct lab territories, which depend on the regions")


@app.command()
def territories(
    lesions: Annotated[Path, typer.Option(help="Folder of lesion masks in MNI space, 1 mm.")],
) -> None:
    """Rebuild the atlases of territories and ASPECTS regions."""
    from infarct.cli.console import busy
    from infarct.lab.atlases import aspects
    from infarct.lab.atlases.territories import build

    with busy("building the atlases"):
        written = build(lesions), aspects.build()
    for file in written:
        typer.echo(file)


@app.command()
def demo_scan(
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the scans to choose from.")] = 0,
) -> None:
    """Rebuild the synthetic scan used by `infarct demo`."""
    from infarct.cli.console import busy
    from infarct.lab.simulation.demo_scan import make_demo_scan

    with busy("simulating the demo scan"):
        written = make_demo_scan(seed)
    typer.echo(written)


@app.command()
def bank(
    data: Annotated[Path, typer.Option(help="Folder with anatomies, lesions and normals.")],
    out: Annotated[Path, typer.Option(help="Output file (.npz).")],
) -> None:
    """Pack anatomies, lesions and backgrounds for training."""
    from infarct.cli.console import busy
    from infarct.lab.sources.packing import build

    with busy("packing anatomies, lesions and backgrounds (about two minutes)"):
        packed = build(data)
        packed.save(out)
    typer.echo(
        f"{out}: {len(packed.anatomies)} anatomies, {len(packed.lesions)} lesions, "
        f"{len(packed.backgrounds)} backgrounds, {out.stat().st_size / 1e6:.1f} MB"
    )
    typer.echo(f"next: infarct lab train rehearsal --bank {out} --out runs/rehearsal")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="TOML file, or name of a bundled recipe.")],
    out: Annotated[Path, typer.Option(help="Output folder of the run.")],
    bank: Annotated[
        Path | None,
        typer.Option(help="Bank written by `infarct lab bank`. Default: the ICBM brain only."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Time limit in minutes; overrides the recipe. 0: no limit."),
    ] = None,
    validate_on: Annotated[
        Path | None,
        typer.Option(help="Folder of `infarct lab prepare-cases`, for scoring only."),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(help="Folder of `infarct lab prepare-cases`, for training."),
    ] = None,
    split: Annotated[
        int | None,
        typer.Option(min=0, help="Random seed that selects the held-out validation patients."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue the run in --out.")] = False,
) -> None:
    """Train a network. Ctrl-C saves the state; --resume continues from there."""
    from infarct.lab.training import config
    from infarct.lab.training.real_cases import on_patients

    chosen = config.changed(config.read(recipe), minutes, validate_on)
    _train(on_patients(chosen, cases, split), bank, out, resume=resume)


@app.command()
def final(
    run: Annotated[Path, typer.Argument(help="Folder of a run with held-out patients.")],
    out: Annotated[Path, typer.Option(help="Output folder of the final run.")],
    bank: Annotated[
        Path | None,
        typer.Option(help="Bank written by `infarct lab bank`. Default: the ICBM brain only."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue the run in --out.")] = False,
) -> None:
    """Train on all patients, as long as a run's best snapshot."""
    from infarct.lab.training.loop import final_recipe

    _train(final_recipe(run), bank, out, resume=resume)


def _train(chosen: Recipe, bank: Path | None, out: Path, *, resume: bool) -> None:
    from infarct.lab.training.loop import is_over, progress_of, run

    if resume and not any((*out.glob("last.pt"), *out.glob("weights.pt*"))):
        typer.echo(f"{out}: no run to resume; starting a new one", err=True)
    typer.echo(f"training; scores and speed are added to {out / 'log.csv'}")
    position = run(chosen, bank, out, resume)
    if not is_over(chosen, position):
        done = progress_of(chosen, position)
        typer.echo(f"stopped at {done:.0%}; run the same command with --resume", err=True)
        raise typer.Exit(130)
    typer.echo(f"network: {out / 'weights.pt'}")
    typer.echo(f"next: infarct lab score {out}, then infarct lab export {out / 'weights.pt'}")


@app.command()
def average(
    runs: Annotated[list[Path], typer.Argument(help="Folders of the runs, in training order.")],
    out: Annotated[Path, typer.Option(help="Output folder; must not exist.")],
    bank: Annotated[
        Path | None,
        typer.Option(help="Bank written by `infarct lab bank`. Default: the ICBM brain only."),
    ] = None,
) -> None:
    """Average the weights of runs, to reduce false positives."""
    from infarct.cli.console import busy
    from infarct.lab.training.weight_averaging import write_average

    with busy("averaging the weights and scoring them"):
        scores = write_average(runs, bank, out)
    typer.echo(f"validation Dice {scores.dice:.3f}, false voxels {scores.false_voxels:.0f}")
    typer.echo(f"next: infarct lab export {out / 'weights.pt'}")


@app.command()
def score(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    bank: Annotated[
        Path | None,
        typer.Option(help="Bank written by `infarct lab bank`. Default: the ICBM brain only."),
    ] = None,
    validate_on: Annotated[
        Path | None,
        typer.Option(help="Folder of `infarct lab prepare-cases`, scored in addition."),
    ] = None,
) -> None:
    """Score the last weights of a run, and log the scores."""
    from infarct.cli.console import busy
    from infarct.lab.training.scoring import score_run

    with busy("scoring the validation set"):
        scores = score_run(run, bank, validate_on)
    typer.echo(f"validation Dice {scores.dice:.3f}, false voxels {scores.false_voxels:.0f}")
    if not math.isnan(scores.real_dice):
        typer.echo(f"real cases: Dice {scores.real_dice:.3f}")
    typer.echo(f"all scores: {run / 'log.csv'}")
    typer.echo(f"next: infarct lab export {run / 'weights.pt'}")


@app.command()
def search(
    out: Annotated[Path, typer.Option(help="Output folder; repeat the command to continue.")],
    bank: Annotated[
        Path | None,
        typer.Option(help="Bank written by `infarct lab bank`. Default: the ICBM brain only."),
    ] = None,
    cases: Annotated[int, typer.Option(min=1, help="Number of synthetic scans.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of scans and folds.")] = 0,
    folds: Annotated[int, typer.Option(min=2, help="Number of cross-validation folds.")] = 5,
    method: Annotated[
        list[str] | None, typer.Option(help="cfuzzy or tscore; may be repeated. Default: both.")
    ] = None,
    controls: Annotated[
        int,
        typer.Option(min=2, help="Number of lesion-free control scans, smoothed like the cases."),
    ] = 60,
) -> None:
    """Search the best settings of the classical methods."""
    from infarct.lab.tuning.grids import METHODS
    from infarct.lab.tuning.search import Plan, run

    unknown = sorted(set(method or ()) - set(METHODS))
    if unknown:
        raise typer.BadParameter(
            f"no grid for {', '.join(unknown)}; choose from {', '.join(METHODS)}"
        )
    plan = Plan(cases, seed, folds, tuple(method or METHODS), controls)
    typer.echo(run(bank, out, plan).read_text(encoding="utf-8"))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="weights.pt or best.pt of a run.")],
    out: Annotated[
        Path | None, typer.Option(help="Output folder. Default: `export` in the run folder.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the files. Default: the name of the run folder.")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of your network, for its model card. Default: not stated.")
    ] = "",
    into_package: Annotated[
        bool, typer.Option("--into-package", help="Add the network to the package instead.")
    ] = False,
    start: Annotated[
        bool, typer.Option(help="With --into-package: also ship the weights for fine-tuning.")
    ] = True,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing network.")] = False,
) -> None:
    """Export a trained network as ONNX, with a model card."""
    from infarct.core.assets import sha256
    from infarct.lab.training.export_onnx import export as write
    from infarct.lab.training.export_onnx import ship
    from infarct.lab.training.model_card import UNDECIDED

    if into_package and (out or licence):
        raise typer.BadParameter("--into-package cannot be combined with --out or --licence")
    stem = name or checkpoint.resolve().parent.name
    folder = out or checkpoint.resolve().parent / "export"
    written = (
        ship(checkpoint, stem, start=start, overwrite=overwrite)
        if into_package
        else write(checkpoint, folder, stem, licence=licence or UNDECIDED, overwrite=overwrite)
    )
    for file in written:
        typer.echo(f"{file}  {sha256(file)}")
    if not into_package:
        name = stem.lower().replace("_", "-")
        typer.echo(f"next: INFARCT_MODELS={folder} infarct segment --model {name} ...")


@app.command()
def calibrate(
    bank: Annotated[Path, typer.Option(help="Bank written by `infarct lab bank`.")],
    out: Annotated[Path, typer.Option(help="Output folder; repeat the command to continue.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="Network, or `ensemble`; may be repeated. Default: the default model."),
    ] = None,
    cases: Annotated[
        int, typer.Option(min=1, help="Number of synthetic cases; half are lesion-free.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the cases.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Number of parallel processes.")] = 2,
) -> None:
    """Calibrate the confidence of a network on synthetic scans.

    Writes the calibration to the folder INFARCT_MODELS for your own network, or to the package
    for a bundled one.
    """
    from rich.progress import track

    from infarct.core import assets
    from infarct.lab.calibration.collect import Order, collect
    from infarct.lab.calibration.fit import fit, ship
    from infarct.segmentation.models import DEFAULT, get_model, own_folder

    models = tuple(model or [DEFAULT])
    # Check now: the first case takes minutes.
    if any(not get_model(one).networks for one in models):
        raise typer.BadParameter("only networks can be calibrated; name a network")
    orders = [Order(bank, seed, index, models, out) for index in range(cases)]
    rows = list(track(collect(orders, workers), "cases", total=cases))
    for one in models:
        files = get_model(one).networks
        calibration = fit([of_case[one] for of_case in rows], one, files)
        for name, point in calibration.points.items():
            typer.echo(
                f"{one}, {name}: {point.false_alarm_rate:.0%} of lesion-free scans flagged, "
                f"{point.miss_rate:.0%} of infarcts missed"
            )
        ships = all(file.is_relative_to(assets.ROOT) for file in files)
        typer.echo(ship(calibration, None if ships else own_folder()))
    typer.echo(f"next: infarct segment --model {models[0]} ...")


@app.command()
def networks() -> None:
    """List the available networks, their inputs and their sizes."""
    from rich.console import Console
    from rich.table import Table

    from infarct.lab.networks import DESIGNS, build, parameters

    table = Table("network", "inputs", "features", "parameters")
    for name, design in DESIGNS.items():
        width = "fixed" if design.features is None else str(design.features)
        table.add_row(name, ", ".join(design.channels), width, f"{parameters(build(name)):,}")
    Console().print(table)
    check_printed()


@app.command()
def prepare_cases(
    folder: Annotated[
        Path, typer.Argument(help="BIDS-like or ISLES-like folder with DWI, ADC and masks.")
    ],
    out: Annotated[Path, typer.Option(help="Output folder for the prepared cases.")],
) -> None:
    """Prepare real labelled cases for training or scoring."""
    from infarct.lab.training.prepare_real_cases import prepare_cases as prepare

    for name, outcome in prepare(folder, out):
        typer.echo(f"{name}: {outcome}")
    typer.echo(f"cases: {out}")
    typer.echo(f"next: infarct lab train RECIPE --cases {out} --out RUN")
