"""The synthetic scanner."""
