"""Segment and evaluate ISLES'22, as distributed on Zenodo, next to published figures.

    python benchmarks/isles22.py ISLES-2022 --out OUT [--model ensemble]

The 250 public cases are the training data of the challenge. No network of infarct has seen them;
methods of the challenge have, so that their published figures are those of the hidden test cases or
of other hospitals.
"""

from __future__ import annotations

from public_dataset import Dataset, main

ISLES22 = Dataset(
    name="ISLES'22",
    get="Download ISLES-2022.zip from zenodo.org/records/7960856, unpack it, and give its folder.",
    references="derivatives",
    label=None,
    published=(
        (
            "DeepISLES",
            "1,685 scans of Johns Hopkins",
            "median Dice .82 (IQR .15), lesion-wise F1 .86",
            "de la Rosa et al. 2025, Nat Commun, Table 2",
        ),
        (
            "two readings, by different experts and by one",
            "scans of Johns Hopkins",
            "mean Dice .76 (SD .14) and .79 (.12)",
            "Liu et al. 2021, Methods",
        ),
    ),
)

if __name__ == "__main__":
    main(ISLES22)
