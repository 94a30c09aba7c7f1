"""Named cohorts, one TOML file each."""
