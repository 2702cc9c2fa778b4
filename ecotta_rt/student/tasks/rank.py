"""`ecotta student rank`, for Python."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ecotta_rt.errors import UsageError
from ecotta_rt.files.temporary import temporary_folder
from ecotta_rt.student import ranking
from ecotta_rt.student.defaults import MEASURE, PICTURES, POWER
from ecotta_rt.student.frame_limit import student_frame
from ecotta_rt.student.named_data import LabelledData, find_labelled
from ecotta_rt.student.ranking import Ranking, check_ranking
from ecotta_rt.student.source_networks import find_source_networks, largest_frame, open_source_networks
from ecotta_rt.student.tasks.pictures import Pictures, decoded_labelled
from ecotta_rt.student.watch import Watch

__all__ = ["rank"]


def rank(
    networks: Sequence[str | Path],
    data: LabelledData,
    *,
    measures: Sequence[str] = (MEASURE, "parc"),
    power: float = POWER,
    pictures: Pictures | None = None,
    leave_out: bool = False,
    seed: int = 0,
    watch: Watch | None = None,
) -> Ranking:
    """Rank networks that were trained for other tasks by how much they know of yours: `ecotta student rank`.

    Args:
        networks: Folders, network files of ours, or TOML files. **Runs the code** that a TOML file names.
        data: Labelled pictures of your task: a path, or frames uint8 `[N, H, W, C]` and labels int64 `[N]`.
        measures: Names from `ecotta_rt.student.similarity.MEASURES`; the first ranks and weighs.
        power: p of the weights.
        pictures: How they are looked at; at most 500 unless it says another `count`.
        leave_out: Go on without networks that cannot be used.
        seed: Of the choice of pictures.
        watch: Hears how far it is.

    Raises:
        UsageError: Measures, power or pictures that cannot be meant.
        InputFileError: Data that cannot be read, or networks that cannot be used; the message names every one.
    """
    watch, pictures = watch or Watch(), pictures or Pictures(count=PICTURES)
    check_ranking(measures, power)
    if pictures.count is not None and pictures.count < 1:
        raise UsageError(f"frames {pictures.count}: at least 1, and better 100")
    frame = None if pictures.size is None else student_frame(pictures.size, resize=pictures.resize)
    specs = find_source_networks(networks)
    labelled = find_labelled(data, pictures.classes, count=pictures.count, seed=seed, what="data")
    opened, left = open_source_networks(specs, frame, leave_out=leave_out, tell=watch.tell)
    frame = frame or largest_frame(opened)
    assert frame is not None  # of networks without a size opening says so
    with temporary_folder(tempfile.gettempdir(), "ecotta-rank-") as folder:
        frames, labels = decoded_labelled(labelled, frame, folder / "frames", watch)
        with watch.work("ranking networks") as report:
            found = ranking.rank(opened, frames, labels, measures, power=power, report=report)
    return replace(found, frame=frame.size, left_out=left)
