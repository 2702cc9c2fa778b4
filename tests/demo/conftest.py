import pytest

from ecotta_rt.demo.ladder import climb
from ecotta_rt.demo.shipped import read_stream, unpacked_bundle


@pytest.fixture(scope="session")
def bundle():
    """The shipped one, unpacked."""
    with unpacked_bundle() as path:
        yield path


@pytest.fixture(scope="session")
def told():
    """What the watcher of `played` heard, filled by it."""
    return []


@pytest.fixture(scope="session")
def played(bundle, told):
    """The shipped stream with two frames of each corruption, and what came of it."""
    stream = read_stream(2)
    return stream, climb(bundle, stream, lambda *heard: told.append(heard))
