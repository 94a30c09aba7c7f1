"""BIDS in and out: which images of a dataset are a case, and derivatives under BIDS names."""
