"""Write metrics.json: what panoptica, MedPy and scikit-learn say about the masks of the tests.

Run it where they are installed (panoptica pins an older rich and numpy than ours, so in an
environment of its own):

    python -m venv oracle && oracle/bin/pip install panoptica medpy scikit-learn
    oracle/bin/python tests/oracles/metrics.py
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from medpy.metric import binary
from panoptica import (
    ConnectedComponentsInstanceApproximator,
    InputType,
    NaiveThresholdMatching,
    Panoptica_Evaluator,
)
from sklearn.metrics import f1_score, precision_score, recall_score

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "evaluation"))
from blobs import AFFINE, mask_pairs  # noqa: E402


def main() -> None:
    """Score every pair and write the file beside this script."""
    panoptica = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(),
        instance_matcher=NaiveThresholdMatching(matching_threshold=0.25),
    )
    spacing = np.diag(AFFINE)[:3]
    distances = binary.__dict__["__surface_distances"]
    rows = []
    for reference, prediction in mask_pairs():
        result = panoptica.evaluate(
            prediction.astype(np.uint8), reference.astype(np.uint8), verbose=False
        )["ungrouped"]
        flat = reference.ravel(), prediction.ravel()
        directed = (
            np.percentile(distances(a, b, spacing), 95)
            for a, b in ((reference, prediction), (prediction, reference))
        )
        rows.append(
            {
                "dice": f1_score(*flat),
                "precision": precision_score(*flat),
                "sensitivity": recall_score(*flat),
                "lesions": [result.n_ref_instances, result.n_pred_instances, result.tp],
                "recognition_quality": result.rq,
                "hausdorff95_mm": float(max(directed)),
            }
        )
    made_with = {name: version(name) for name in ("panoptica", "medpy", "scikit-learn")}
    expected = {"made_with": made_with, "pairs": rows}
    (HERE / "metrics.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
