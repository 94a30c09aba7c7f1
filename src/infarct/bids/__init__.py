"""BIDS input and output: finds the scans of a dataset and names the derivatives."""
