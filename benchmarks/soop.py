"""Segment and evaluate SOOP, as distributed on OpenNeuro, next to published figures.

    python benchmarks/soop.py ds004889 --out OUT [--model ensemble]

The simulator uses the shapes of lesion masks of this dataset, but none of its images.
"""

from __future__ import annotations

from public_dataset import Dataset, main

SOOP = Dataset(
    name="SOOP",
    get="Run `datalad install -g ///openneuro/ds004889`, or download it from openneuro.org, and "
    "give its folder.",
    references="derivatives/lesion_masks",
    label="lesion",
    published=(
        (
            "two readings, by different experts and by one",
            "scans of Johns Hopkins",
            "mean Dice .76 (SD .14) and .79 (.12)",
            "Liu et al. 2021, Methods",
        ),
        (
            "DeepISLES",
            "1,685 scans of Johns Hopkins",
            "median Dice .82 (IQR .15), lesion-wise F1 .86",
            "de la Rosa et al. 2025, Nat Commun, Table 2",
        ),
    ),
)

if __name__ == "__main__":
    main(SOOP)
