import numpy as np
import pytest

from ecotta_rt.adapt.channels import Channels
from ecotta_rt.errors import UsageError


def test_channels_are_found_wherever_their_arrays_lie():
    channels = Channels.of([("x.mean", 2), ("y.1.variance", 1), ("y.1.mean", 1), ("x.variance", 2)])

    assert channels.norms == ("x", "y.1")
    assert channels.means.tolist() == [0, 1, 3]
    assert channels.variances.tolist() == [4, 5, 2]
    assert channels.count == 3
    assert channels.each([0.5, 2]).tolist() == [0.5, 0.5, 2]


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ([("x.mean", 2)], "norm 'x' needs a mean and a variance"),
        ([("x.mean", 2), ("x.variance", 3)], "norm 'x' needs"),
        ([("x.weight", 2)], "'x.weight' is no statistic"),
        ([("mean", 2)], "'mean' is no statistic"),
    ],
)
def test_a_vector_of_other_arrays_is_refused(arrays, what):
    with pytest.raises(UsageError, match=what):
        Channels.of(arrays)


def test_a_network_without_norms_has_no_channels():
    assert Channels.of([]).count == 0
    assert Channels.of([]).means.dtype == np.intp
