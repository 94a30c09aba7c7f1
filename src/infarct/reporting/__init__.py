"""Write results, read them back, and render the report."""
