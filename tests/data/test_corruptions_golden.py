"""The output of our generator, kept: a change of any byte is a change of every result that was measured with it.

`python tests/data/test_corruptions_golden.py` writes the file anew. Then also raise `GENERATOR` in
`ecotta_rt/data/corrupted.py`, so that caches forget the old frames.
"""

from pathlib import Path

import numpy as np

from ecotta_rt.data.corruptions import CORRUPTIONS, corrupt

GOLDEN = Path(__file__).parent / "golden" / "corruptions.npz"
SIDE = 12
PLACE = np.array([7])


def picture():
    """One frame in whole-number arithmetic: a disk of one colour on a ramp of others; uint8 `[1, 12, 12, 3]`."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    ramp = np.stack([20 * rows, 9 * rows + 11 * columns, 220 - 15 * columns], axis=-1)
    disk = ((2 * rows - SIDE) ** 2 + (2 * columns - SIDE) ** 2 < SIDE**2 // 3)[..., None]
    return np.where(disk, [200, 90, 30], ramp).astype(np.uint8)[None]


def made(corruption):
    return corrupt(picture(), corruption, severity=4, seed=11, indices=PLACE)[0]


def test_the_generator_makes_what_it_made_before(subtests):
    for corruption in CORRUPTIONS:
        with subtests.test(corruption=corruption):
            with np.load(GOLDEN, allow_pickle=False) as golden:
                difference = np.abs(made(corruption).astype(int) - golden[corruption])

            if corruption == "jpeg_compression":  # another JPEG library may round its transform differently
                assert difference.mean() < 1
            else:  # values are cut off, so the last bit of another machine's arithmetic can move one by a level
                assert difference.max() <= 1
                assert (difference > 0).mean() < 0.05


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **{corruption: made(corruption) for corruption in CORRUPTIONS})
