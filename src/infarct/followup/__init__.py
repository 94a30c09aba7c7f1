"""Growth, fate and response of infarcts between the scans of one patient."""
