"""Run the example notebooks and store their output in them: `python docs/examples/execute.py`.

Each notebook runs in an empty temporary folder. Metadata that changes from run to run is removed.
The cohort example needs the extra `lab`, because it simulates its scans.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

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
    for output in (each for cell in notebook.cells for each in cell.get("outputs", [])):
        if output["output_type"] == "stream":
            output["text"] = output["text"].replace(f"{folder}{os.sep}", "")
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k == "tags"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    os.environ["TERM"] = "dumb"  # no progress bars
    for name in sys.argv[1:] or sorted(HERE.glob("*.ipynb")):
        execute(Path(name))
