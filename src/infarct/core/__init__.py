"""What everything rests on: geometry, NIfTI, diffusion formulas, findings, errors, files."""
