"""Files that ship with the package: name -> path, checked against the sha256 on record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from infarct.core.atomic_write import atomic_file
from infarct.core.errors import AssetError

ROOT = Path(__file__).parents[1] / "data"
_INDEX = ROOT / "assets.json"


@dataclass(frozen=True)
class Asset:
    """One file that ships.

    Attributes:
        name: How code asks for it, e.g. `templates/b0`.
        file: Path below the data folder.
        sha256: Of the file.
        licence: Under which it ships.
        source: What went in, in a sentence; a model has a card instead, named here.
    """

    name: str
    file: str
    sha256: str
    licence: str
    source: str


def index() -> dict[str, Asset]:
    """Return every asset by name."""
    try:
        rows = json.loads(_INDEX.read_text())
    except (OSError, ValueError) as error:
        raise AssetError(f"the list of shipped files is damaged ({error}); reinstall") from error
    return {row["name"]: Asset(**row) for row in rows}


def path(name: str) -> Path:
    """Return the path of an asset, its content checked each time: a process may live for days.

    Args:
        name: A key of `index()`.

    Raises:
        AssetError: If there is no such asset, or the file is missing or changed.
    """
    assets = index()
    if name not in assets:
        raise AssetError(f"no shipped file is called {name!r}; there are: {', '.join(assets)}")
    asset = assets[name]
    file = ROOT / asset.file
    if not file.is_file() or sha256(file) != asset.sha256:
        raise AssetError(f"{file} is missing or not the file that was shipped; reinstall")
    return file


def register_asset(*new: Asset) -> None:
    """Add assets to the list, or replace those of their names; used by what builds them."""
    rows = {**(index() if _INDEX.is_file() else {}), **{asset.name: asset for asset in new}}
    text = json.dumps([asdict(rows[name]) for name in sorted(rows)], indent=1)
    with atomic_file(_INDEX) as draft:
        draft.write_text(text + "\n")


def sha256(file: Path) -> str:
    """Return the hex digest of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
