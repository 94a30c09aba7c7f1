"""Measurements of a lesion mask: volumes, territories, regions, ASPECTS."""
