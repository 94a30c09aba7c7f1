"""Many cases: found in a table or by a pattern, run side by side, resumed, and summed up."""
