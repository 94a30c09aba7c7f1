"""Calibrated confidence: candidate filter, second method, asymmetry, result checks."""
