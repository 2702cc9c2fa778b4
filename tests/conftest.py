"""What all tests share: repeatable property tests, and the folder with the CIFAR files where there is one."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Repeatable and never timed: a slow machine is no failure. HYPOTHESIS_PROFILE=explore looks for new examples instead.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def ecotta_data() -> Path:
    """The folder that holds `cifar-10-batches-bin/` and `CIFAR-10-C/`; skips the test where it is not set."""
    folder = os.environ.get("ECOTTA_DATA")
    if not folder:
        pytest.skip("ECOTTA_DATA is not set: no CIFAR files here")
    return Path(folder)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top of the checkout."""
    return Path(__file__).parent.parent
