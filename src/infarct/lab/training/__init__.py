"""Trains, averages, scores and exports networks."""
