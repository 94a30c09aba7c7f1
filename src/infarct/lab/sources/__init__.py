"""Source data of the synthetic scans: anatomies, lesion masks and backgrounds."""
