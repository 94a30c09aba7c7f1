"""Files bundled with the package, looked up by name and verified by SHA-256."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from infarct.core.atomic_write import atomic_file
from infarct.core.errors import AssetError

ROOT = Path(__file__).parents[1] / "data"
_INDEX = ROOT / "assets.json"

SOURCE_ONLY = ("*.pt", "*_brief.*", "DAGMNet_CH3.*")
"""Names of files that the index lists but the wheel leaves out, to stay small: checkpoints, and
networks that only compare methods. The same as `exclude` of the wheel in `pyproject.toml`."""


@dataclass(frozen=True)
class Asset:
    """A bundled file.

    Attributes:
        name: Name used in the code, e.g. `templates/b0`.
        file: Path relative to the data folder.
        sha256: SHA-256 of the file.
        licence: Licence of the file.
        source: Origin of the file in one sentence, or the name of the model card.
    """

    name: str
    file: str
    sha256: str
    licence: str
    source: str

    @property
    def location(self) -> Path:
        """Where the file is, if it is part of this installation."""
        return ROOT / self.file

    @property
    def source_only(self) -> bool:
        """Whether only a clone or the source archive contains the file, not the wheel."""
        name = PurePosixPath(self.file).name
        return any(fnmatchcase(name, pattern) for pattern in SOURCE_ONLY)


def index() -> dict[str, Asset]:
    """Return all assets by name.

    Raises:
        AssetError: If the index is damaged.
    """
    try:
        rows = json.loads(_INDEX.read_text())
    except (OSError, ValueError) as error:
        raise AssetError(f"the index of bundled files is damaged ({error}); reinstall") from error
    return {row["name"]: Asset(**row) for row in rows}


def path(name: str) -> Path:
    """Return the path of an asset.

    The checksum is verified on every call, because a process may run for days.

    Args:
        name: A key of `index()`.

    Raises:
        AssetError: If there is no such asset, the file is missing or has changed, or the wheel
            leaves it out.
    """
    assets = index()
    if name not in assets:
        raise AssetError(f"there is no bundled file {name!r}; choose from {', '.join(assets)}")
    asset = assets[name]
    file = asset.location
    if asset.source_only and not file.is_file():
        raise AssetError(f"{file.name} is not part of this installation; {how_to_get(asset)}")
    if not file.is_file() or sha256(file) != asset.sha256:
        raise AssetError(f"{file} is missing or has changed; reinstall")
    return file


@dataclass(frozen=True)
class Verification:
    """Result of verifying the checksums of all bundled files.

    Attributes:
        intact: Number of files with the listed checksum.
        damaged: Paths of files that are missing or have changed, relative to the data folder.
        left_out: Number of files that this installation lacks because the wheel leaves them out.
    """

    intact: int
    damaged: tuple[str, ...]
    left_out: int


def verify() -> Verification:
    """Verify the SHA-256 checksum of every bundled file.

    Raises:
        AssetError: If the index is damaged.
    """
    present, left_out = [], 0
    for asset in index().values():
        if asset.source_only and not asset.location.is_file():
            left_out += 1
        else:
            present.append(asset)
    damaged = tuple(
        asset.file
        for asset in present
        if not asset.location.is_file() or sha256(asset.location) != asset.sha256
    )
    return Verification(len(present) - len(damaged), damaged, left_out)


def how_to_get(asset: Asset) -> str:
    """Say how to get a file that the wheel leaves out."""
    return f"copy src/infarct/data/{asset.file} of a clone of the repository to {asset.location}"


def register_asset(*new: Asset) -> None:
    """Add assets to the index, replacing existing ones; used by the scripts that build assets."""
    rows = {**(index() if _INDEX.is_file() else {}), **{asset.name: asset for asset in new}}
    text = json.dumps([asdict(rows[name]) for name in sorted(rows)], indent=1)
    with atomic_file(_INDEX) as draft:
        draft.write_text(text + "\n")


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal string."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
