"""Searches settings of the classical methods."""
