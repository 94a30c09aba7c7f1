"""What synthetic scans are made from: anatomies, lesion masks, backgrounds."""
