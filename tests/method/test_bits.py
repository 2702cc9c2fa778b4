import torch
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.method.lean.bits import is_channels_last, pack_between, unpack


@given(
    shape=st.tuples(*(st.integers(1, 5) for _ in range(4))),
    channels_last=st.booleans(),
    high=st.sampled_from([0.7, float("inf")]),
    seed=st.integers(0, 1000),
)
def test_unpacking_gives_the_comparison_back_in_either_layout(shape, channels_last, high, seed):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x

    mask = unpack(pack_between(x, 0.0, high), x.shape, is_channels_last(x), torch.float32)

    assert torch.equal(mask.bool(), (x > 0) & (x < high))


def test_eight_elements_take_one_byte(subtests):
    for elements in [1, 7, 8, 9, 4096]:
        with subtests.test(elements=elements):
            assert pack_between(torch.ones(elements), 0.0).numel() == -(-elements // 8)
