"""Scores the masks of any tool against a reference, as the paper does and beyond.

Reads masks from disk; never runs a network.
"""

from infarct.evaluation.pipeline import Evaluation, EvaluationRequest, evaluate

__all__ = ["Evaluation", "EvaluationRequest", "evaluate"]
