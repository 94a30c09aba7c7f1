"""Writes results, reads them back, and shows them."""
