"""Pictures of a task: how they are looked at, decoded, and kept while it runs."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec, Resize
from ecotta_rt.data import LabelledSet, Left, remove_store
from ecotta_rt.files.temporary import temporary_folder
from ecotta_rt.student.domains import Domains, FoundDomains, find_domains
from ecotta_rt.student.named_data import LabelledData, UnlabelledData
from ecotta_rt.student.out_files import beside
from ecotta_rt.student.watch import Watch

__all__ = ["Pictures", "decoded", "decoded_labelled", "of_test", "stores"]

_SHOWN_FILES = 10


@dataclass(frozen=True)
class Pictures:
    """How pictures of all domains are looked at.

    Attributes:
        classes: Names by label, instead of those of the folders.
        count: Pictures to use of each domain that has more, chosen at random; None: all.
        size: Height and width of the frames; None: what the networks are made for, else that of the source.
        resize: `cover` cuts pictures of another shape, `stretch` squeezes them.
        plain_targets: Folders inside of targets are no classes.
    """

    classes: Sequence[str] = ()
    count: int | None = None
    size: tuple[int, int] | None = None
    resize: Resize = "cover"
    plain_targets: bool = False

    def find(self, source: LabelledData, targets: Mapping[str, UnlabelledData], seed: int) -> FoundDomains:
        """Look at the data of all domains; as `find_domains`."""
        return find_domains(
            source,
            targets,
            classes=self.classes,
            plain_targets=self.plain_targets,
            count=self.count,
            seed=seed,
        )


@contextmanager
def stores(
    out: Path | None, found: FoundDomains, tests: Mapping[str, LabelledSet], watch: Watch
) -> Iterator[tuple[Path, Path | None]]:
    """Where decoded frames and the snapshot are kept; they stay where the user interrupts, to go on from."""
    if out is None:
        with temporary_folder(tempfile.gettempdir(), "ecotta-student-") as folder:
            yield folder / "frames", None
        return
    store, snapshot = (beside(out, kind) for kind in ("frames", "snapshot"))

    def remove() -> None:
        found.remove(store)
        for name in tests:
            remove_store(of_test(store, name))

    try:
        yield store, snapshot
    except KeyboardInterrupt:
        watch.tell("the same command goes on after the last whole epoch")
        raise
    except BaseException:
        remove()
        raise
    remove()
    snapshot.unlink(missing_ok=True)


def of_test(store: Path, name: str) -> Path:
    """Where frames of a test set are kept."""
    return beside(store, "of-test", name)


def decoded(found: FoundDomains, frame: FrameSpec, store: Path, watch: Watch) -> Domains:
    """Frames of all domains; says how many there are and which files gave none."""
    with watch.work("decoding pictures") as report:
        domains = found.frames(frame, store, lambda done, total: report(done, total, ""))
    _tell_of_left_out(domains.left_out, watch)
    counts = [f"{len(domain.frames):,} of {domain.name}" for domain in (domains.source, *domains.targets)]
    size = f"{frame.height} x {frame.width}, {frame.colour}"
    watch.tell(f"pictures: {', '.join(counts)}; {len(domains.classes)} classes; frames {size}")
    return domains


def decoded_labelled(
    labelled: LabelledSet, frame: FrameSpec, store: Path, watch: Watch
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Frames and labels; says which files gave none."""
    with watch.work("decoding pictures") as report:
        data = labelled.frames(frame, store, lambda done, total: report(done, total, ""))
    _tell_of_left_out(data.left_out, watch)
    labels: NDArray[np.int64] = data.training.labels  # type: ignore[union-attr]  # of labelled data
    return data.training.frames, labels


def _tell_of_left_out(left_out: Sequence[Left], watch: Watch) -> None:
    for left in left_out[:_SHOWN_FILES]:
        watch.tell(f"left out: {left.path}: {left.why}")
    if len(left_out) > _SHOWN_FILES:
        watch.tell(f"left out: {len(left_out) - _SHOWN_FILES} more")
