"""Commands of the lab: `infarct lab ...`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infarct.core.process_setup import check_printed

if TYPE_CHECKING:
    from infarct.lab.training.config import Recipe

app = typer.Typer(no_args_is_help=True, help="Make what the runtime ships.")


@app.callback()
def lab() -> None:
    """Make what the runtime ships: synthetic scans, networks, templates."""


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="Folder for the cases.")],
    n: Annotated[int, typer.Option(min=1, help="How many cases.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same cases.")] = 0,
    cohort: Annotated[str, typer.Option(help="Name of a cohort.")] = "training",
    bank: Annotated[
        Path | None, typer.Option(help="From `infarct lab bank`; the ICBM brain alone if left out.")
    ] = None,
) -> None:
    """Write synthetic cases as a scanner would have saved them."""
    from infarct.lab.simulation.cohort import load_cohort
    from infarct.lab.simulation.write_cases import synthesise
    from infarct.lab.sources.bank import Bank

    source = Bank.load(bank) if bank else Bank.from_icbm()
    for folder in synthesise(load_cohort(cohort), source, n, seed, out):
        typer.echo(folder)


@app.command()
def templates(
    normals: Annotated[
        Path | None,
        typer.Option(help="Folder of real lesion-free scans, NAME/NAME_{dwi,b0,adc}.nii.gz."),
    ] = None,
    bank: Annotated[
        Path | None, typer.Option(help="From `infarct lab bank`, to draw synthetic scans from.")
    ] = None,
    synthetic: Annotated[int, typer.Option(min=0, help="How many synthetic scans go in.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the synthetic scans.")] = 0,
    fwhm: Annotated[
        list[float] | None,
        typer.Option(
            help="Smoothing of the healthy statistics, voxels; repeat it. Default: 2 (c-fuzzy) "
            "and 4 (t-score)."
        ),
    ] = None,
) -> None:
    """Rebuild the b0 template and the healthy statistics that ship with the package."""
    from rich.progress import track

    from infarct.lab.simulation.controls import lesion_free_scans
    from infarct.lab.sources.bank import Bank
    from infarct.lab.sources.templates import SHIPPED_FWHM, build

    source = Bank.load(bank) if bank else Bank.from_icbm()
    scans = track(lesion_free_scans(source, synthetic, seed), "scans", total=synthetic)
    names = build(normals, scans, synthetic, fwhm or SHIPPED_FWHM)
    typer.echo(f"{len(names)} lesion-free scans went in")


@app.command()
def recover(
    name: Annotated[str, typer.Argument(help="Bundled network, such as FCN_CH2.")],
    features: Annotated[int, typer.Option(help="Width of its first level.")],
    bank: Annotated[Path, typer.Option(help="From `infarct lab bank`.")],
    out: Annotated[Path, typer.Option(help="File to write, ending in .pt.")],
    scans: Annotated[int, typer.Option(min=1, help="Synthetic scans to measure batches on.")] = 12,
) -> None:
    """Recover trainable weights of a bundled network that ships as ONNX alone."""
    from infarct.lab.training.from_onnx import recover_weights

    recover_weights(name, features, bank, scans, out)
    typer.echo(out)


@app.command()
def regions(
    anatomies: Annotated[Path, typer.Option(help="Folder of whole heads as FreeSurfer labels.")],
) -> None:
    """Rebuild the map of regions that ships; then rebuild the territories, which rest on it."""
    from infarct.lab.atlases.regions import build

    typer.echo(build(anatomies))


@app.command()
def territories(
    lesions: Annotated[Path, typer.Option(help="Folder of lesion masks in MNI space, 1 mm.")],
) -> None:
    """Rebuild the atlas of arterial territories and the ASPECTS regions that ship."""
    from infarct.lab.atlases import aspects
    from infarct.lab.atlases.territories import build

    typer.echo(build(lesions))
    typer.echo(aspects.build())


@app.command()
def demo_scan(
    seed: Annotated[int, typer.Option(min=0, help="Of the series a fair case is taken from.")] = 0,
) -> None:
    """Remake the synthetic scan that `infarct demo` runs on."""
    from infarct.lab.simulation.demo_scan import make_demo_scan

    typer.echo(make_demo_scan(seed))


@app.command()
def bank(
    data: Annotated[Path, typer.Option(help="Folder with anatomies, lesions and normals.")],
    out: Annotated[Path, typer.Option(help="File to write, .npz.")],
) -> None:
    """Pack anatomies, lesions and lesion-free scans into one file to train from."""
    from infarct.lab.sources.packing import build

    packed = build(data)
    packed.save(out)
    typer.echo(
        f"{out}: {len(packed.anatomies)} anatomies, {len(packed.lesions)} lesions, "
        f"{len(packed.backgrounds)} backgrounds, {out.stat().st_size / 1e6:.1f} MB"
    )


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or the name of a packaged recipe.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    bank: Annotated[
        Path | None, typer.Option(help="From `infarct lab bank`; the ICBM brain alone if left out.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Length of the run, instead of the recipe's; 0 for no limit."),
    ] = None,
    validate_on: Annotated[
        Path | None,
        typer.Option(help="Folder of `infarct lab prepare-cases`: scored, never learned from."),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(help="Folder of `infarct lab prepare-cases` to learn from."),
    ] = None,
    split: Annotated[
        int | None,
        typer.Option(min=0, help="Seed that draws the patients held out for validation."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue the run in the folder.")] = False,
) -> None:
    """Train a network; Ctrl-C saves, --resume continues exactly there."""
    from infarct.lab.training import config
    from infarct.lab.training.real_cases import on_patients

    chosen = config.changed(config.read(recipe), minutes, validate_on)
    _train(on_patients(chosen, cases, split), bank, out, resume=resume)


@app.command()
def final(
    run: Annotated[Path, typer.Argument(help="Folder of a run that held out patients.")],
    out: Annotated[Path, typer.Option(help="Folder of the final run.")],
    bank: Annotated[
        Path | None, typer.Option(help="From `infarct lab bank`; the ICBM brain alone if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue the run in the folder.")] = False,
) -> None:
    """Train again on all patients, for as many epochs as the best snapshot of a run had."""
    from infarct.lab.training.loop import final_recipe

    _train(final_recipe(run), bank, out, resume=resume)


def _train(chosen: Recipe, bank: Path | None, out: Path, *, resume: bool) -> None:
    from infarct.lab.training.loop import is_over, progress_of, run

    if resume and not any((*out.glob("last.pt"), *out.glob("weights.pt*"))):
        typer.echo(f"{out}: no run is here to continue, so one begins", err=True)
    position = run(chosen, bank, out, resume)
    if not is_over(chosen, position):
        done = progress_of(chosen, position)
        typer.echo(f"stopped at {done:.0%}; the same command with --resume goes on", err=True)
        raise typer.Exit(130)


@app.command()
def average(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, as they were trained.")],
    out: Annotated[Path, typer.Option(help="New folder, like that of a run.")],
    bank: Annotated[
        Path | None, typer.Option(help="From `infarct lab bank`; the ICBM brain alone if left out.")
    ] = None,
) -> None:
    """Average the weights of runs that went on from one another: fewer false alarms."""
    from infarct.lab.training.weight_averaging import write_average

    scores = write_average(runs, bank, out)
    typer.echo(f"validation Dice {scores.dice:.3f}, false voxels {scores.false_voxels:.0f}")


@app.command()
def score(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    bank: Annotated[
        Path | None, typer.Option(help="From `infarct lab bank`; the ICBM brain alone if left out.")
    ] = None,
    validate_on: Annotated[
        Path | None, typer.Option(help="Folder of `infarct lab prepare-cases`, scored beside it.")
    ] = None,
) -> None:
    """Score the last weights of a run on the validation set, and add that to its log."""
    from infarct.lab.training.scoring import score_run

    scores = score_run(run, bank, validate_on)
    typer.echo(f"validation Dice {scores.dice:.3f}, false voxels {scores.false_voxels:.0f}")
    if not math.isnan(scores.real_dice):
        typer.echo(f"real cases: Dice {scores.real_dice:.3f}")


@app.command()
def search(
    out: Annotated[Path, typer.Option(help="Folder of the search; run again, it goes on.")],
    bank: Annotated[
        Path | None, typer.Option(help="From `infarct lab bank`; the ICBM brain alone if left out.")
    ] = None,
    cases: Annotated[int, typer.Option(min=1, help="How many synthetic scans.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of the scans and the folds.")] = 0,
    folds: Annotated[int, typer.Option(min=2, help="Of the cross-validation.")] = 5,
    method: Annotated[
        list[str] | None, typer.Option(help="cfuzzy or tscore, may be repeated; both if left out.")
    ] = None,
    controls: Annotated[
        int, typer.Option(min=2, help="Lesion-free scans to compare with, smoothed like each scan.")
    ] = 60,
) -> None:
    """Search the paper's grids for the best settings of the classical methods."""
    from infarct.lab.tuning.grids import METHODS
    from infarct.lab.tuning.search import Plan, run

    unknown = sorted(set(method or ()) - set(METHODS))
    if unknown:
        raise typer.BadParameter(
            f"no grid for {', '.join(unknown)}; there are {', '.join(METHODS)}"
        )
    plan = Plan(cases, seed, folds, tuple(method or METHODS), controls)
    typer.echo(run(bank, out, plan).read_text(encoding="utf-8"))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="weights.pt or best.pt of a run.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; into the package if left out.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the files; the folder of the run if left out.")
    ] = None,
    start: Annotated[
        bool, typer.Option(help="Ship the weights that other runs may start from, too.")
    ] = True,
    overwrite: Annotated[bool, typer.Option(help="Replace a network of that name.")] = False,
) -> None:
    """Write a trained network as ONNX, with its card and sha256."""
    from infarct.core.assets import sha256
    from infarct.lab.training.export_onnx import export as write
    from infarct.lab.training.export_onnx import ship

    stem = name or checkpoint.resolve().parent.name
    written = (
        write(checkpoint, out, stem, overwrite=overwrite)
        if out
        else ship(checkpoint, stem, start=start, overwrite=overwrite)
    )
    for file in written:
        typer.echo(f"{file}  {sha256(file)}")


@app.command()
def calibrate(
    bank: Annotated[Path, typer.Option(help="From `infarct lab bank`.")],
    out: Annotated[Path, typer.Option(help="Folder for the cases; a broken run goes on there.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="Network, or `ensemble`, may be repeated; the usual one if left out."),
    ] = None,
    cases: Annotated[
        int, typer.Option(min=1, help="How many; half are drawn without an infarct.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the cases.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one case each.")] = 2,
) -> None:
    """Learn how far a network can be trusted, and keep that beside it.

    Of a network of one's own that is in the folder INFARCT_MODELS names, of one that ships in the
    package.
    """
    from rich.progress import track

    from infarct.core import assets
    from infarct.lab.calibration.collect import Order, collect
    from infarct.lab.calibration.fit import fit, ship
    from infarct.segmentation.models import DEFAULT, get_model, own_folder

    models = tuple(model or [DEFAULT])
    # Now, not after the first case, which takes minutes.
    if any(not get_model(one).networks for one in models):
        raise typer.BadParameter("a classical method is not calibrated; name a network")
    orders = [Order(bank, seed, index, models, out) for index in range(cases)]
    rows = list(track(collect(orders, workers), "cases", total=cases))
    for one in models:
        files = get_model(one).networks
        calibration = fit([of_case[one] for of_case in rows], one, files)
        for name, point in calibration.points.items():
            typer.echo(
                f"{one}, {name}: {point.false_alarm_rate:.0%} of the lesion-free flagged, "
                f"{point.miss_rate:.0%} of the infarcts missed"
            )
        ships = all(file.is_relative_to(assets.ROOT) for file in files)
        typer.echo(ship(calibration, None if ships else own_folder()))


@app.command()
def networks() -> None:
    """List the networks of the paper and how large they are."""
    from rich.console import Console
    from rich.table import Table

    from infarct.lab.networks import DESIGNS, build, parameters

    table = Table("network", "reads", "features", "parameters")
    for name, design in DESIGNS.items():
        width = "its own" if design.features is None else str(design.features)
        table.add_row(name, ", ".join(design.channels), width, f"{parameters(build(name)):,}")
    Console().print(table)
    check_printed()


@app.command()
def prepare_cases(
    folder: Annotated[Path, typer.Argument(help="BIDS-like or ISLES-like: DWI, ADC and masks.")],
    out: Annotated[Path, typer.Option(help="Folder for the prepared cases.")],
) -> None:
    """Prepare real cases with masks, to be mixed into a training by its recipe."""
    from infarct.lab.training.prepare_real_cases import prepare_cases as prepare

    for name, outcome in prepare(folder, out):
        typer.echo(f"{name}: {outcome}")
