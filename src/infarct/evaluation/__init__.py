"""Evaluates lesion masks of any tool against a reference: the metrics of the paper and others.

Reads masks from disk and never runs a network.
"""

from infarct.evaluation.pipeline import Evaluation, EvaluationRequest, evaluate

__all__ = ["Evaluation", "EvaluationRequest", "evaluate"]
