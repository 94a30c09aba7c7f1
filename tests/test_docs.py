"""Everything the documents print runs as printed, and everything they name is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.main import get_command

import infarct
from infarct.cli.main import app
from infarct.core import assets, errors
from infarct.core.findings import FindingCode
from infarct.inference import backends
from infarct.segmentation.models import DEFAULT

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.glob("[!_]*.md")),
    *sorted(DOCS.glob("[!_]*/**/*.md")),
]
README = (ROOT / "README.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()

# Installing is what the targets of the Makefile do before any test can run.
INSTALL = ("make demo", "pip install .")


FIRST_SCAN = (DOCS / "get-started" / "first-scan.md").read_text()
CORRECTION = (DOCS / "how-to" / "correct-a-mask.md").read_text()


def console_lines(page: str) -> list[str]:
    """Return the commands of a page that run as printed."""
    blocks = re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def shell_lines(page: str) -> list[str]:
    """Return all commands of a page, those with placeholders included."""
    blocks = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    joined = [re.sub(r"\\\n\s*", " ", block) for block in blocks]
    return [
        *console_lines(page),
        *(line for block in joined for line in block.splitlines()),
        *re.findall(r"`(infarct [^`]+)`", page),
    ]


START = [*console_lines(README), *console_lines(FIRST_SCAN)]
COMMANDS = list(dict.fromkeys(line for line in START if line not in INSTALL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Put a scan where the documents have it."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("dwi", "b0"):
        shutil.copyfile(assets.path(f"demo/{name}"), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def ran(folder: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """Run every command of README and first scan once, as printed and in the order of the pages.

    By the quicker engine that the page offers; the usual one answers in test_end_to_end.
    """
    done = {}
    environment = {**os.environ, backends.ENGINE: "openvino"}
    for line in COMMANDS:
        program, *arguments = shlex.split(line)
        assert program == "infarct"
        command = [Path(sys.executable).with_name(program), *arguments]
        done[line] = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=folder, env=environment
        )
    return done


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_of_the_first_pages_run_as_printed(folder: Path, ran, line: str) -> None:
    assert ran[line].returncode == 0, ran[line].stderr
    arguments = shlex.split(line)
    assert (folder / arguments[arguments.index("--out") + 1] / "report.html").is_file()


def test_the_demo_says_how_close_it_came_and_by_hand_it_is_the_same_to_the_bit(
    folder: Path, ran
) -> None:
    (demo,) = (line for line in COMMANDS if line.startswith("infarct demo"))
    assert "Dice" in ran[demo].stdout
    for name in ("lesion_mask", "lesion_probability"):
        tried, by_hand = (
            np.asarray(nib.load(folder / out / f"{name}.nii.gz").dataobj)
            for out in ("try", "result")
        )
        assert tried.any()
        assert np.array_equal(tried, by_hand)
    tried, by_hand = (
        json.loads((folder / out / "summary.json").read_text()) for out in ("try", "result")
    )
    assert tried["model"] == DEFAULT
    for name in ("model", "lesion_volume_ml", "adc_ratio", "lesions", "regions"):
        assert tried[name] == by_hand[name]


def test_python_of_the_readme_runs_as_printed(folder: Path, monkeypatch, capsys) -> None:
    # What the default makes of this scan is seen above; here a method without networks is enough.
    quick = partial(infarct.segment, model="cfuzzy")
    monkeypatch.setattr(infarct, "segment", quick)
    monkeypatch.chdir(folder)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    assert blocks == re.findall(r"```python\n(.*?)```", FIRST_SCAN, flags=re.DOTALL)
    for block in blocks:
        exec(block, {})
        assert " ml\n" in capsys.readouterr().out


def test_a_mask_is_corrected_as_printed(folder: Path, ran, tmp_path: Path) -> None:
    shutil.copytree(folder / "result", tmp_path / "result")
    mask = nib.load(folder / "result" / "lesion_mask.nii.gz")
    edited = np.asarray(mask.dataobj).copy()
    edited[tuple(np.argwhere(edited)[0])] = 0
    nib.save(nib.Nifti1Image(edited, mask.affine, mask.header), tmp_path / "edited.nii.gz")
    for line in console_lines(CORRECTION):
        program, *arguments = shlex.split(line)
        command = [Path(sys.executable).with_name(program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "A. Reader" in (tmp_path / "result" / "report.html").read_text()
    before, after = (
        json.loads((path / "result" / "summary.json").read_text())["lesion_volume_ml"]
        for path in (folder, tmp_path)
    )
    assert after < before


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_exist(page: Path) -> None:
    for line in shell_lines(page.read_text()):
        for part in re.split(r"\s*(?:&&|[|;>])\s*", line):
            words = re.sub(r"^(?:\w+=\S+ |setsid |nohup |nice |do )+", "", part).split()
            if not words or words[0] != "infarct":
                continue
            command = get_command(app)
            names = words[1:]
            while names and names[0] in getattr(command, "commands", {}):
                command = command.commands[names.pop(0)]
            if words[1:] and words[1].islower() and words[1].isalpha():
                assert words[1] in get_command(app).commands, line
            known = {"--help"}.union(
                *((*each.opts, *each.secondary_opts) for each in command.params)
            )
            used = {word.split("=")[0] for word in names if word.startswith("--")}
            assert used <= known, (line, used - known)


@pytest.mark.parametrize("name", ["one-scan", "cohort"])
def test_notebooks_are_stored_with_their_output(name: str) -> None:
    path = DOCS / "examples" / f"{name}.ipynb"
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 1e6


def test_code_of_the_first_notebook_runs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(infarct, "segment", partial(infarct.segment, model="cfuzzy"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in json.loads((DOCS / "examples" / "one-scan.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert 0 < names["agreement"].dice < 1


def test_install_lines_are_targets_that_exist() -> None:
    assert set(INSTALL) <= set(START)
    assert re.search(r"^demo:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_code_is_documented_and_every_documented_code_exists() -> None:
    table = (DOCS / "reference" / "findings.md").read_text()
    documented = {
        code: frozenset(levels.split(" or "))
        for row, levels in re.findall(
            r"^\| (`[^|]+) \| ((?:note|warning)[^|]*) \|", table, flags=re.MULTILINE
        )
        for code in re.findall(r"`([a-z0-9-]+)`", row)
    }
    assert documented == {code.value: frozenset(code.levels) for code in FindingCode}


def test_the_codes_that_withhold_confidence_are_listed() -> None:
    page = (DOCS / "reference" / "findings.md").read_text()
    listed = page.split("(withheld)=")[1].split("The candidate filter")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", listed)) == {
        code.value for code in FindingCode if code.voids_confidence
    }


def test_exit_codes_of_the_docs_are_those_of_the_errors() -> None:
    page = (DOCS / "reference" / "exit-codes.md").read_text()
    kinds = errors.InfarctError.__subclasses__()
    for kind in kinds:
        assert re.search(rf"^\| {kind.exit_code} \| [a-z]", page, flags=re.MULTILINE), kind


def test_the_decision_log_is_numbered_dated_and_complete() -> None:
    folder = DOCS / "explanation" / "decisions"
    entries = sorted(folder.glob("0*.md"))
    index = (folder / "index.md").read_text()
    for number, entry in enumerate(entries, start=1):
        text = entry.read_text()
        assert entry.name.startswith(f"{number:04}-")
        title = re.match(rf"# {number}\. (.+)\n\n\*\*Date:\*\* (\d{{4}}-\d\d-\d\d)", text)
        assert title, entry.name
        assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == [
            *("Context", "Options", "Decision", "Consequences")
        ], entry.name
        assert f"| {number} | {title[2]} | [{title[1]}]({entry.name}) |" in index


def test_the_latest_version_is_the_same_everywhere() -> None:
    released = re.findall(r"^## (\d+\.\d+\.\d+) - (\S+)$", CHANGELOG, flags=re.MULTILINE)
    version, date = released[0]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation
    assert f'\ndate-released: "{date}"\n' in citation
    assert f'\nfallback-version = "{version}"\n' in (ROOT / "pyproject.toml").read_text()


def test_everything_that_can_be_imported_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "python.md").read_text()
    assert [n for n in infarct.__all__ if not re.search(rf":: infarct\.{n}$", page, re.M)] == []


def test_the_readme_fits_a_minute() -> None:
    assert README.count("\n") <= 120


def test_every_written_field_is_documented(segmentation) -> None:
    from infarct.reporting.writer import summarise  # noqa: PLC0415 - the fixture is the costly part

    table = (DOCS / "reference" / "outputs.md").read_text()
    assert [name for name in summarise(segmentation) if f"`{name}`" not in table] == []
