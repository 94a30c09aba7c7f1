"""Lets the tests and their worker processes import the stubs in this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
