"""Builders of the bundled atlases."""
