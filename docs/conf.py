"""Sphinx configuration of the documentation; `make docs` builds it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
GENERATED = HERE / "_generated"

project = "infarct"
author = "The infarct developers"
project_copyright = "The infarct developers, Apache-2.0"
release = installed("infarct")
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
]
exclude_patterns = ["_build", "_generated", "**/.ipynb_checkpoints"]
suppress_warnings = ["misc.highlighting_failure"]

# Markdown. Notebooks are executed by `make notebooks` and committed with their figures.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"

# Docstrings: Google style, and single backticks mean code.
default_role = "literal"
smartquotes = False  # would turn the two dashes of an option into one
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "infarct"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_sphinx = False


def write_command_reference(*_: object) -> None:
    """Write the reference of the command line from the commands themselves."""
    done = subprocess.run(
        [sys.executable, "-m", "typer", "infarct.cli.main", "utils", "docs", "--name", "infarct"],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    # The page has its own title; a command is a section, and a command of a group a subsection.
    lines = done.stdout.replace("# `infarct`", "## `infarct`", 1)
    # A backspace tells the terminal to keep the lines of a paragraph as they are.
    lines = lines.replace("\b\n", "")
    GENERATED.mkdir(exist_ok=True)
    (GENERATED / "cli.md").write_text(lines, encoding="utf-8")


def setup(app: object) -> None:
    """Generate pages before Sphinx looks for sources."""
    app.connect("config-inited", write_command_reference)  # type: ignore[attr-defined]
