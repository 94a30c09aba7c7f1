"""BIDS datasets of files that are empty or contain a line of text."""

from pathlib import Path


def dataset(root: Path, *names: str) -> Path:
    """Make files that are empty or contain the text after `=`."""
    root.mkdir(exist_ok=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    for name in names:
        path, _, content = name.partition("=")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return root
