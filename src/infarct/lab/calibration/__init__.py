"""Collects candidates on synthetic scans and fits the calibration."""
