"""Segmentation methods and their result."""
