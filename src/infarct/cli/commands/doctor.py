"""`infarct doctor`: check the installation, for users and for bug reports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from infarct.cli.options import DEFAULT_MODEL, Model
from infarct.core.process_setup import check_printed


def doctor(
    model: Model = DEFAULT_MODEL,
    self_test: Annotated[
        bool, typer.Option(help="Segment the bundled scan (about 20 s), without writing anything.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the installation: versions, engine, extras, files, and a self-test.

    The output names no user, host, folder or scan, so that you can paste it into a bug report. The
    exit code is 14 if the self-test fails, and 7 if only bundled files are damaged.
    """
    from infarct.cli.installation import (
        describe_machine,
        describe_software,
        run_self_test,
        verify_files,
    )
    from infarct.core.errors import AssetError, SelfTestError

    report = {**describe_software(), **describe_machine(), "files": verify_files()}
    if not as_json:
        _print(_lines(report))
        if self_test:
            typer.echo("self-test: segmenting the bundled scan ...", err=True)
    test = run_self_test(model) if self_test else None
    if as_json:
        _print([json.dumps({**report, "self_test": test}, indent=1)])
    elif test:
        _print([f"self-test: {_outcome(test)}"])
    check_printed()
    if test and not test["passed"]:
        raise SelfTestError(
            f"the self-test failed ({_outcome(test)}); reinstall, and if it fails again report it "
            "with this output"
        )
    if report["files"]["damaged"]:
        raise AssetError(f"damaged: {', '.join(report['files']['damaged'])}; reinstall")


def _print(lines: Iterator[str] | list[str]) -> None:
    for line in lines:
        typer.echo(line)


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Describe the installation in lines of text."""
    yield f"infarct {report['infarct']}, {report['python']}, {report['system']}"
    memory = report["memory_gb"]
    yield f"cores: {report['cores']}, memory: {f'{memory} GB' if memory else 'unknown'}"
    disk = (f"{free} GB ({folder})" for folder, free in report["free_disk_gb"].items())
    yield f"free disk: {', '.join(disk)}"
    yield f"engine: {report['engine']}"
    packages = (f"{name} {version or 'missing'}" for name, version in report["packages"].items())
    yield f"packages: {', '.join(packages)}"
    for name, extra in report["extras"].items():
        yield f"extra {name}: {_extra(extra)}"
    for name, value in report["variables"].items():
        yield f"{name}: {value}"
    files = report["files"]
    damaged = f"damaged: {', '.join(files['damaged'])}; reinstall" if files["damaged"] else ""
    left_out = f"{files['left_out']} only in the repository" if files["left_out"] else ""
    parts = (f"{files['intact']} intact", left_out, damaged)
    yield f"bundled files: {', '.join(part for part in parts if part)}"


def _extra(extra: Mapping[str, Any]) -> str:
    if extra["installed"]:
        return "installed"
    return f"not installed ({', '.join(extra['missing'])}); in your clone: {extra['command']}"


def _outcome(test: Mapping[str, Any]) -> str:
    """Describe the result of the self-test."""
    verdict = "passed" if test["passed"] else "failed"
    found = test.get("error") or f"Dice {test['dice']:.2f}, {test['engine']}"
    return f"{verdict} in {test['seconds']:.0f} s, {test['model']}, {found}"
