"""Shared basics: geometry, NIfTI, diffusion formulas, findings, errors, files."""
