"""Builds what the package ships: synthetic scans, networks, training and templates."""
