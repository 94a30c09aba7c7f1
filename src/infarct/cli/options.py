"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infarct.measurement.atlas import Atlas

DEFAULT_MODEL = "ensemble"
"""Same as `infarct.segmentation.models.DEFAULT`, which is too slow to import for `--help`."""


class Kept(StrEnum):
    """Outputs that a cohort writes only on request."""

    mni = "mni"


Model = Annotated[
    str,
    typer.Option(
        help="Model to use (see `infarct models list`). Separate several networks with commas to "
        "average them. Append :sensitive, :balanced (default) or :specific to set the operating "
        "point."
    ),
]
OwnAtlas = Annotated[
    Path | None,
    typer.Option(help="Custom territory atlas in MNI space (NIfTI); requires --labels."),
]
OwnLabels = Annotated[
    Path | None,
    typer.Option(
        help="Region names for --atlas: a TSV with columns index, name and optional side."
    ),
]
B0Below = Annotated[
    float, typer.Option(help="Volumes of a series with a lower b-value (s/mm^2) are b0.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of local processes. Default: as many as cores and memory allow."
    ),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a running Dask scheduler, e.g. tls://HOST:PORT.")
]
Unencrypted = Annotated[
    bool,
    typer.Option(
        "--unencrypted",
        help="Allow a scheduler without TLS. Anyone who can reach its port can run code as you.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace an existing result in OUT, unless it contains manual edits."
    ),
]
OverwriteCorrected = Annotated[
    bool,
    typer.Option(
        "--overwrite-corrected",
        help="Replace existing results even if they contain manual corrections or your own files.",
    ),
]
Keep = Annotated[
    list[Kept] | None,
    typer.Option(help="mni: also keep scan and maps in MNI space (about 25 MB per case)."),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Retry cases that failed in an earlier run.")
]


def read_own_atlas(atlas: Path | None, labels: Path | None) -> Atlas | None:
    """Read the atlas given by --atlas and --labels; None if neither is given."""
    from infarct.measurement.atlas import read_atlas  # noqa: PLC0415 - slow

    if (atlas is None) != (labels is None):
        raise typer.BadParameter("--atlas and --labels must be given together")
    return read_atlas(atlas, labels) if atlas and labels else None
