"""Simulator of diffusion MRI scans with and without acute infarcts."""
