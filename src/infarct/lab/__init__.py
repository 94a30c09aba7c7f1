"""Makes what the runtime ships: synthetic scans, networks, training, templates."""
