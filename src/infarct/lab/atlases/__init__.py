"""Builds the atlases that ship."""
