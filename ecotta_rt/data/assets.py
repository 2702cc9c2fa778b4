"""Where the trained networks and the embedded sample are.

They are too heavy for a device and belong to the bench side alone, so they live in `benchmarks/` of a checkout and are
never part of the installed package.
"""

import os
from pathlib import Path

from ecotta_rt.errors import Unavailable

__all__ = ["assets_folder"]

VARIABLE = "ECOTTA_ASSETS"


def assets_folder() -> Path:
    """The folder that holds `networks/` and `data/`: `$ECOTTA_ASSETS`, else `benchmarks/` of the checkout we run from.

    Raises:
        Unavailable: There is no such folder, as after an install without a checkout.
    """
    chosen = os.environ.get(VARIABLE)
    folder = Path(chosen) if chosen else Path(__file__).resolve().parents[2] / "benchmarks"
    if (folder / "data").is_dir() or (folder / "networks").is_dir():
        return folder
    reason = f"${VARIABLE} names {folder}, which" if chosen else f"this install has no checkout around it, and {folder}"
    raise Unavailable(
        f"the bench's sample images and trained networks are missing: {reason} has neither `data` nor `networks` in it;"
        f" clone the repository and set {VARIABLE} to its folder `benchmarks`, or run `make bench` there. This install"
        " can run `ecotta demo` as it is; or with data and a trained network of your own, see --data and --model"
    )
