"""Scores the masks of any tool against a reference, as the paper does and beyond.

Reads masks from disk; never runs a network.
"""
