"""Calibrated confidence: candidate filter, second reader, asymmetry, result checks."""
