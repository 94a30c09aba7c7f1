"""`python -m infarct`, the same as `infarct`."""

from infarct.cli import main

main()
