"""The bank that needs no data, made once."""

from __future__ import annotations

import pytest

from infarct.lab.bank import Bank


@pytest.fixture(scope="session")
def bank(once) -> Bank:
    """One ICBM head, no real lesions, no backgrounds."""
    return once("bank", lambda _: Bank.from_icbm())
