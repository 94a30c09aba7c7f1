"""Draw the atlases over the b0 template: territories, regions and ASPECTS, a row each.

    python benchmarks/atlas_picture.py OUT.png

Slices hang as radiologists look at them: the patient's right is on the left of each picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from infarct.core.resampling import resample
from infarct.measurement.atlas import Atlas, load_atlas
from infarct.preprocessing.templates import load_template

HEIGHTS_MM = (-37, -21, -9, 5, 25, 45)
COLUMNS_PER_LEGEND = 9


def main() -> None:
    """Draw and save."""
    figure = Figure(figsize=(10.5, 6.9), facecolor="black")
    FigureCanvasAgg(figure)
    rows = figure.subplots(3, len(HEIGHTS_MM))
    figure.subplots_adjust(0, 0.06, 1, 1, wspace=0.01, hspace=0.22)
    for panels, name in zip(rows, ("territories", "regions", "aspects"), strict=True):
        draw(panels, load_atlas(name))
    figure.savefig(Path(sys.argv[1]), dpi=110, facecolor="black", metadata={"Software": None})


def draw(panels: np.ndarray, atlas: Atlas) -> None:
    """Draw one row of slices, and the names under it."""
    names = list(dict.fromkeys(entry.name for entry in atlas.entries))
    number = np.zeros(256, dtype=int)
    for entry in atlas.entries:
        number[entry.index] = 1 + names.index(entry.name)
    grey = resample(load_template().b0, atlas.labels.grid)
    colours = colormaps["tab20"](np.arange(len(names)) % 20)[:, :3]
    table = np.vstack([to_rgb("black"), colours])
    for panel, z in zip(panels, HEIGHTS_MM, strict=True):
        k = round((z - atlas.labels.affine[2, 3]) / 2)
        labels, base = number[atlas.labels.data[:, :, k]], np.clip(grey[:, :, k] / 2.5, 0, 1)
        share = np.where(labels > 0, 0.55, 0.0)[..., None]
        image = (1 - share) * base[..., None] + share * table[labels]
        panel.imshow(image[::-1].transpose(1, 0, 2), origin="lower", interpolation="nearest")
        panel.text(2, 2, f"z = {z}", color="white", fontsize=7)
        panel.set_axis_off()
    handles = [Patch(color=c, label=n) for c, n in zip(colours, names, strict=True)]
    panels[len(panels) // 2].legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.0, 0.0),
        ncols=min(COLUMNS_PER_LEGEND, len(names)),
        fontsize=7,
        frameon=False,
        labelcolor="white",
        handlelength=1,
        columnspacing=1,
    )


if __name__ == "__main__":
    main()
