"""The pictures of a student: labelled ones of a source domain, and unlabelled ones of each target domain.

    find_domains(source, targets)  ->  FoundDomains: looked at, nothing decoded; what cannot be meant is refused here
    FoundDomains.frames(frame, store)  ->  Domains: frames of the size that the networks take

Labels of a target are dropped. What data a path may name: `named_data`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.data import LabelledSet, Left, Unlabelled, remove_store
from ecotta_rt.data.decoding import DecodeCallback
from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.snapshot import array_digest
from ecotta_rt.student.named_data import LabelledData, UnlabelledData, find_labelled, find_unlabelled

__all__ = ["Domain", "Domains", "FoundDomains", "find_domains", "frames_digest"]

_SAMPLED = 64


@dataclass(frozen=True, eq=False)
class Domain:
    """Pictures of one place or style.

    Attributes:
        name: What the user calls it.
        frames: uint8 `[N, H, W, C]`.
        labels: int64 `[N]`; None where there are none, as in every target.
    """

    name: str
    frames: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Domains:
    """What a student learns from.

    Attributes:
        source: With labels.
        targets: Without.
        classes: Names by label.
        left_out: Files that gave no frame.
    """

    source: Domain
    targets: tuple[Domain, ...]
    classes: tuple[str, ...]
    left_out: tuple[Left, ...] = ()

    def __post_init__(self) -> None:
        if self.source.labels is None:
            raise UsageError(f"source {self.source.name}: it has no labels; a source needs one for each picture")
        sizes = {domain.frames.shape[1:] for domain in (self.source, *self.targets)}
        if len(sizes) > 1:
            raise UsageError(f"domains of different frames: {sorted(sizes)}; all must have one size and colour")
        low, high = int(self.source.labels.min()), int(self.source.labels.max())
        if low < 0 or high >= len(self.classes):
            raise UsageError(f"labels go from {low} to {high}, and there are {len(self.classes)} classes")

    def identity(self) -> dict[str, str]:
        """What tells these data from others, for the record of a run: names, counts, labels and first frames."""
        said = {f"domain {domain.name}": _described(domain) for domain in (self.source, *self.targets)}
        return {**said, "labels": array_digest(self.labels), "classes": ", ".join(self.classes)}

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of the source, int64 `[N]`."""
        assert self.source.labels is not None
        return self.source.labels


@dataclass(frozen=True, eq=False)
class FoundDomains:
    """Domains that have been looked at and not decoded yet.

    Attributes:
        source: Labelled.
        targets: By name.
        classes: Names by label.
    """

    source: LabelledSet
    targets: Mapping[str, LabelledSet]
    classes: tuple[str, ...]

    def common_size(self) -> tuple[int, int]:
        """Height and width of the source's pictures; UsageError where they differ."""
        return self.source.common_size()

    def frames(self, frame: FrameSpec, store: Path, report: DecodeCallback | None = None) -> Domains:
        """Make frames of them all.

        Args:
            frame: What the networks take.
            store: Where decoded pictures are kept, a file a domain with its name behind this one's; see
                `decode_pictures`. Remove them with `remove`.
            report: As for `decode_pictures`, over all domains.

        Raises:
            As `decode_pictures`.
        """
        total = self.source.count + sum(target.count for target in self.targets.values())
        left: list[Left] = []
        before = 0

        def made(name: str, pictures: LabelledSet) -> Domain:
            nonlocal before
            told = None if report is None else (lambda done, _, base=before: report(base + done, total))
            data = pictures.frames(frame, _store(store, name), told)
            before += pictures.count
            left.extend(data.left_out)
            labels = None if isinstance(data.training, Unlabelled) else data.training.labels
            return Domain(name, data.training.frames, labels)

        source = made("source", self.source)
        targets = [made(name, pictures) for name, pictures in self.targets.items()]
        without_labels = tuple(Domain(target.name, target.frames) for target in targets)
        return Domains(source, without_labels, self.classes, tuple(left))

    def remove(self, store: Path) -> None:
        """Remove what `frames` keeps."""
        for name in ("source", *self.targets):
            remove_store(_store(store, name))


def find_domains(
    source: LabelledData,
    targets: Mapping[str, UnlabelledData],
    *,
    classes: Sequence[str] = (),
    plain_targets: bool = False,
    count: int | None = None,
    seed: int = 0,
) -> FoundDomains:
    """Look at the data of all domains, and refuse what cannot be meant before anything is decoded.

    Args:
        source: Labelled data, see `named_data`.
        targets: By the name of the domain; may be empty.
        classes: Names by label, instead of those of the folders; as for `open_class_folders`.
        plain_targets: Folders inside of targets are no classes (dates, cameras).
        count: Pictures to use of each domain that has more, chosen at random; None: all.
        seed: Of that choice.

    Raises:
        UsageError: A source without labels or of one class, or a `count` below 1.
        InputFileError: Data that cannot be read; a target without pictures; class folders with names that the source
            has not.
    """
    if count is not None and count < 1:
        raise UsageError(f"frames {count}: at least 1 of each domain")
    labelled = find_labelled(source, classes, count=count, seed=seed)
    found: dict[str, LabelledSet] = {}
    for name, data in targets.items():
        found[name] = find_unlabelled(
            name, data, labelled.classes, given=classes, plain=plain_targets, count=count, seed=seed
        )
    return FoundDomains(labelled, MappingProxyType(found), labelled.classes)


def frames_digest(frames: NDArray[np.uint8]) -> str:
    """Of the first frames, which stand for a set that may be larger than memory."""
    return array_digest(frames[:_SAMPLED])


def _described(domain: Domain) -> str:
    height, width = domain.frames.shape[1:3]
    return f"{len(domain.frames)} of {height}x{width}, {frames_digest(domain.frames)}"


def _store(store: Path, name: str) -> Path:
    return store.with_name(f"{store.name}.{name}")
