"""`python -m infarct`, the same as `infarct`."""

from infarct.cli.main import main

main()
