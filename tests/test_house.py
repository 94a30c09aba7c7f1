"""Rules for the whole package: layers, sizes, names, and a test for every module."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "infarct"
TESTS = ROOT / "tests"
MODULES = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 460
MOST_ARGUMENTS = 8

# Modules that the test of another module runs; every entry names that test.
TESTED_ELSEWHERE = {
    "__main__": "cli/test_main.py",
    "cli/bids_arguments": "cli/test_main.py",
    **{
        f"cli/commands/{name}": "cli/test_main.py"
        for name in ("bids", "cohort", "evaluate", "models", "recompute", "report", "segment")
    },
    "cli/commands/demo": "test_docs.py",
    "cli/commands/export": "reporting/test_lesion_export.py",
    "cli/commands/follow": "followup/test_run.py",
    "cli/commands/doctor": "cli/test_installation.py",
    "cli/commands/lab": "lab/test_patients.py",
    "cli/commands/serve": "cli/test_main.py",
    "cli/commands/version": "cli/test_main.py",
    "cli/options": "cli/test_main.py",
    "cli/run_cases": "cli/test_main.py",
    "cli/run_scan": "cli/test_main.py",
    "cohort/local_runner": "cohort/test_runner.py",
    "cohort/numbers_table": "cohort/test_group_report.py",
    "core/bids_names": "bids/test_dataset.py",
    "core/errors": "core/test_assets.py",
    "core/normalisation": "core/test_diffusion.py",
    "core/serialization": "reporting/test_tables.py",
    "evaluation/analysis": "evaluation/test_pipeline.py",
    "evaluation/cohort_table": "evaluation/test_report_contents.py",
    "evaluation/figures": "evaluation/test_report_contents.py",
    "evaluation/flowchart": "evaluation/test_significance.py",
    "evaluation/gallery": "evaluation/test_report_contents.py",
    "evaluation/plot_style": "evaluation/test_report_contents.py",
    "evaluation/raters": "evaluation/test_pipeline.py",
    "evaluation/report": "evaluation/test_pipeline.py",
    "evaluation/score_table": "evaluation/test_report_contents.py",
    "evaluation/table_figure": "evaluation/test_report_contents.py",
    "evaluation/tables": "evaluation/test_report_contents.py",
    "followup/comparison": "followup/test_run.py",
    "followup/mismatch": "followup/test_run.py",
    "followup/page": "followup/test_run.py",
    "followup/tables": "followup/test_run.py",
    "followup/time_points": "followup/test_run.py",
    "lab/atlases/atlas_files": "lab/atlases/test_aspects.py",
    "lab/networks/brainmask": "lab/test_networks.py",
    "lab/networks/dagmnet": "lab/test_networks.py",
    "lab/networks/deepmedic": "lab/test_networks.py",
    "lab/networks/fcn": "lab/test_networks.py",
    "lab/networks/pixels": "lab/test_slices.py",
    "lab/networks/unet": "lab/test_networks.py",
    "lab/simulation/acquisition": "lab/simulation/test_scanner.py",
    "lab/simulation/artefact_sampling": "lab/simulation/test_sampling.py",
    "lab/simulation/artefacts": "lab/simulation/test_scanner.py",
    "lab/simulation/cohort": "lab/simulation/test_sampling.py",
    "lab/simulation/lesion_sampling": "lab/simulation/test_sampling.py",
    "lab/simulation/scan_parameters": "lab/simulation/test_lesion_shapes.py",
    "lab/simulation/tissue": "lab/simulation/test_scanner.py",
    "lab/sources/packing": "lab/sources/test_bank.py",
    "lab/sources/tissue_classes": "lab/sources/test_anatomy.py",
    "lab/training/checkpoint": "lab/training/test_loop.py",
    "lab/training/data_loader": "lab/training/test_loop.py",
    "lab/training/distributed": "lab/training/test_loop.py",
    "lab/training/from_sub_volumes": "lab/test_slices.py",
    "lab/training/log": "lab/training/test_loop.py",
    "lab/training/model_card": "lab/training/test_export_onnx.py",
    "lab/training/prepare_real_cases": "lab/training/test_real_cases.py",
    "lab/training/replay_buffer": "lab/training/test_loop.py",
    "lab/training/sources": "lab/training/test_loop.py",
    "measurement/anatomy": "reporting/test_recompute.py",
    "preprocessing/brain_network": "inference/test_network.py",
    "preprocessing/case": "preprocessing/test_companion_alignment.py",
    "preprocessing/image_checks": "preprocessing/test_checks.py",
    "segmentation/controls": "lab/test_slices.py",
    "segmentation/result": "cli/test_main.py",
    "uncertainty/candidate_filter": "uncertainty/test_calibration.py",
    "uncertainty/result_checks": "test_pipeline.py",
    "web/reading_routes": "web/test_readings.py",
    "web/site": "web/test_server.py",
}


def functions(module: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_layers_are_kept() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_modules_are_small_and_plainly_named(module: Path) -> None:
    text = module.read_text()
    assert text.count("\n") <= MOST_LINES
    assert module.stem not in {"utils", "util", "helpers", "helper", "common", "misc", "base"}
    assert not re.search(r"class \w*(Service|Manager|Helper)\b", text)
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)


def test_no_function_takes_more_arguments_than_a_reader_can_hold() -> None:
    # The command line is exempt: there, every argument is an option a user types.
    crowded = [
        f"{module.relative_to(SOURCE)}:{f.lineno} {f.name}"
        for module in MODULES
        if not module.is_relative_to(SOURCE / "cli")
        for f in functions(module)
        if len(f.args.args) + len(f.args.kwonlyargs) > MOST_ARGUMENTS
    ]
    assert crowded == []


@pytest.mark.parametrize(
    "module",
    [
        path.relative_to(SOURCE).with_suffix("").as_posix()
        for path in MODULES
        if path.stem != "__init__"
    ],
)
def test_every_module_has_a_test_in_the_same_place(module: str) -> None:
    folder, _, name = module.rpartition("/")
    own = Path(folder) / f"test_{name}.py"
    elsewhere = TESTED_ELSEWHERE.get(module)
    assert (TESTS / own).is_file() != (elsewhere is not None), f"{own}, or an entry, but not both"
    assert elsewhere is None or (TESTS / elsewhere).is_file()


def test_tests_mirror_the_source() -> None:
    astray = [
        path.relative_to(TESTS).as_posix()
        for path in TESTS.rglob("test_*.py")
        if path.parent != TESTS and not (SOURCE / path.relative_to(TESTS).parent).is_dir()
    ]
    assert astray == []
    assert set(TESTED_ELSEWHERE) <= {
        path.relative_to(SOURCE).with_suffix("").as_posix() for path in MODULES
    }


def test_randomness_is_passed_in() -> None:
    # A call of a global generator would make two runs differ. First weights of a network cannot be
    # drawn otherwise: a module may seed torch if it forks, that is restores, the global generator.
    calls = r"np\.random\.(?:seed|rand|randn|normal|uniform|choice|randint)\(|\brandom\.seed\("
    offenders = []
    for module in MODULES:
        text = module.read_text()
        seeding = r"|torch\.manual_seed\(" if "fork_rng" not in text else ""
        offenders += [
            f"{module.relative_to(SOURCE)}: {f}" for f in re.findall(calls + seeding, text)
        ]
    assert offenders == []


def test_nothing_tracked_names_a_machine() -> None:
    machine = re.compile(r"/(?:work|root|farm|home/\w+)/|/tmp/")
    named = [
        path.name
        for path in tracked()
        if path.suffix in {".py", ".md", ".toml", ".json", ".txt", ".yaml", ".j2", ""}
        and path != Path(__file__)
        and path.is_file()
        and machine.search(path.read_text(errors="ignore"))
    ]
    assert named == []


def test_no_patient_image_is_tracked() -> None:
    allowed = {"templates", "demo", "networks", "atlas"}
    images = [
        path
        for path in tracked()
        if path.name.endswith((".nii", ".nii.gz", ".dcm", ".npz"))
        and path.parent.name not in allowed
    ]
    assert images == []
