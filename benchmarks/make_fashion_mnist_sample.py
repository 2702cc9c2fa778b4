"""Make the embedded sample: a class-balanced part of Fashion-MNIST, in the official file format.

    python benchmarks/make_fashion_mnist_sample.py --data /usr/share/datasets/fashion-mnist

Writes the four gzipped idx files of the official set, only shorter, and the licence to
`benchmarks/data/fashion-mnist-sample`. Test images come from the official test set and training images from the
official training set, so the two cannot overlap. Seeded, and without time stamps: the same input gives the same bytes
(with the same zlib).
"""

import argparse
import gzip
import os
import struct
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data.fashion_mnist import CLASSES, read_idx

LIMIT_BYTES = 3_000_000
LICENCE = """\
Fashion-MNIST (https://github.com/zalandoresearch/fashion-mnist), of which the files beside this one hold a sample:
{train:,} of the 60,000 training images and {test:,} of the 10,000 test images, chosen at random with seed {seed},
equally many of each class.

The MIT License (MIT)

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def balanced(labels: NDArray[np.uint8], count: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Indices of `count` images, equally many of each class, in random order."""
    share = count // len(CLASSES)
    picked = [generator.choice(np.flatnonzero(labels == label), share, replace=False) for label in range(len(CLASSES))]
    return generator.permutation(np.concatenate(picked))


def write_idx(path: Path, array: NDArray[np.uint8]) -> int:
    """Write one gzipped idx file through a temporary name. Returns its size in bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    content = gzip.compress(header + array.tobytes(), 9, mtime=0)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
    return len(content)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the four official idx files")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "fashion-mnist-sample")
    parser.add_argument("--train", type=int, default=4000, help="training images, for warm-up and tuning")
    parser.add_argument("--test", type=int, default=2500, help="test images, for the streams")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    licence = LICENCE.format(train=args.train, test=args.test, seed=args.seed)
    (args.out / "LICENSE").write_text(licence)
    total = len(licence)
    for number, (split, count) in enumerate([("train", args.train), ("t10k", args.test)]):
        images = read_idx(args.data / f"{split}-images-idx3-ubyte.gz", axes=3)
        labels = read_idx(args.data / f"{split}-labels-idx1-ubyte.gz", axes=1)
        picked = balanced(labels, count, np.random.default_rng([args.seed, number]))
        total += write_idx(args.out / f"{split}-images-idx3-ubyte.gz", images[picked])
        total += write_idx(args.out / f"{split}-labels-idx1-ubyte.gz", labels[picked])
    print(f"{args.out}: {args.train} training and {args.test} test images, {total:,} bytes")
    if total > LIMIT_BYTES:
        print(f"more than the {LIMIT_BYTES:,} bytes the repository allows: ask for fewer images", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
