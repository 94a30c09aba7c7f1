"""Grid search over the settings of the classical methods."""
