"""Run the example notebooks and store their output in them: `python docs/examples/execute.py`.

Each notebook runs in an empty temporary folder. Metadata that changes from run to run is removed.
The cohort example needs the extra `lab`, because it simulates its scans.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(path: Path) -> None:
    """Run one notebook and write it back.

    Args:
        path: The notebook.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell["outputs"] = joined(cell["outputs"], f"{folder}{os.sep}")
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k == "tags"}
    nbformat.write(notebook, path)


def joined(outputs: list[Any], folder: str) -> list[Any]:
    """Join the printed text of a cell, without the folder, terminal codes and progress bars."""
    printed = [each for each in outputs if each["output_type"] == "stream"]
    others = [each for each in outputs if each["output_type"] != "stream"]
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", "".join(each["text"] for each in printed))
    lines = [line for line in re.split(r"[\r\n]+", text.replace(folder, "")) if line.strip()]
    kept = "".join(f"{line.rstrip()}\n" for line in lines if "\u2501" not in line)
    return [*([{**printed[0], "text": kept}] if kept else []), *others]


if __name__ == "__main__":
    os.environ["TERM"] = "dumb"  # no progress bars
    # The notebooks call the command of this environment.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name in sys.argv[1:] or sorted(HERE.glob("*.ipynb")):
        execute(Path(name))
