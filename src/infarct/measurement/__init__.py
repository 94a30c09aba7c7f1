"""Measures a lesion mask: volumes, territories, regions, ASPECTS."""
