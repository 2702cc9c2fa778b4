"""The protocols: what a stream looks like, each as the paper that brought it up has it.

A protocol is a pure function of a `Setting`. `plan_stream` gives the frames of one; the same seed gives the same
frames, whatever plays them. Every corruption draws its own images, those that `ecotta-bench --memory` draws with this
seed. Where a stream needs more images than the set has, it goes through the set again in another order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bench.streams.frame_plan import CLEAN, MIXED, FramePlan, Kind, Piece, joined
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.stream import FRAME_ORDER

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "Setting",
    "by_class",
    "clean",
    "continual",
    "garbage",
    "gradual",
    "mixed",
    "one_class",
    "plan_stream",
    "practical",
    "recurring",
    "sudden",
]

Places = NDArray[np.int64]

# Parts of a generator's seed, so that one choice never depends on another; `data.stream` has 0 to 2.
_CLASS_ORDER, _CLASS_CHOICE, _ROUND_ORDER, _MIXTURE, _GARBAGE, _CLEAN_CHOICE, _ONE_CLASS = range(16, 23)

_DIRICHLET = 0.1
_MOST_SLOTS = 100
_VISITS = 20
_SHORT_VISIT = 100
_GRADES = (1, 2, 3, 4, 5, 4, 3, 2, 1)
_GARBAGE_SHARE = 0.3
_ONE_CLASS_SHARE = 0.6


@dataclass(frozen=True, eq=False)
class Setting:
    """What a protocol is made from.

    Attributes:
        labels: int64 `[M]`, of the image set.
        corruptions: Names, in the order in which they are played.
        frames: Valid frames a corruption.
        severity: 1 to 5.
        seed: Of all that is drawn.
    """

    labels: NDArray[np.int64]
    corruptions: tuple[str, ...]
    frames: int
    severity: int
    seed: int

    def drawn(self, *what: int) -> np.random.Generator:
        """A generator for one choice."""
        return np.random.default_rng((self.seed, *what))

    def images(self, corruption: str, count: int) -> Places:
        """`count` images for this corruption, in random order; through the whole set before any comes again."""
        return self._rounds(self.drawn(FRAME_ORDER, CORRUPTIONS.index(corruption)), np.arange(len(self.labels)), count)

    def of_class(self, label: int, corruption: str, count: int) -> Places:
        """The same, of one class."""
        generator = self.drawn(_ONE_CLASS, CORRUPTIONS.index(corruption))
        return self._rounds(generator, np.flatnonzero(self.labels == label), count)

    def clean_images(self, count: int) -> Places:
        """The same, to be shown as they are."""
        return self._rounds(self.drawn(_CLEAN_CHOICE), np.arange(len(self.labels)), count)

    @staticmethod
    def _rounds(generator: np.random.Generator, places: Places, count: int) -> Places:
        rounds = max(1, -(-count // len(places)))
        return np.concatenate([generator.permutation(places) for _ in range(rounds)])[:count]


def continual(setting: Setting) -> Iterator[Piece]:
    """One corruption after the other, classes at random.

    Asks: does a method adapt at all, and does it last?
    Source: CoTTA (Wang et al. 2022, arXiv 2203.13591), and EcoTTA (arXiv 2303.01904) after it.
    """
    for name in setting.corruptions:
        yield Piece(setting.images(name, setting.frames), name, setting.severity)


def practical(setting: Setting) -> Iterator[Piece]:
    """The same frames, in each corruption with classes that come in runs: Dirichlet(0.1).

    As in the authors' sampler the images of each class are dealt out to as many slots as there are classes, at most
    100, by shares drawn from the Dirichlet distribution; slot follows slot, and in one the classes follow each other.

    Asks: does it take the class that has just gone by for the weather?
    Source: practical test-time adaptation of RoTTA (Yuan et al. 2023, arXiv 2303.13899).
    """
    for place, name in enumerate(setting.corruptions):
        images = setting.images(name, setting.frames)
        yield Piece(_in_runs(images, setting, place), name, setting.severity)


def by_class(setting: Setting) -> Iterator[Piece]:
    """The same frames, in each corruption class after class, in an order of its own.

    Asks: the same, at its worst.
    Source: SAR (Niu et al. 2023, arXiv 2302.12400), label shift of imbalance ratio infinity.
    """
    for place, name in enumerate(setting.corruptions):
        images = setting.images(name, setting.frames)
        ranks = setting.drawn(_CLASS_ORDER, place).permutation(int(setting.labels.max()) + 1)
        yield Piece(images[np.argsort(ranks[setting.labels[images]], kind="stable")], name, setting.severity)


def one_class(setting: Setting) -> Iterator[Piece]:
    """In each corruption one class for 600 of 1,000 frames, then classes at random.

    Asks: does it lock in, and how fast does it come back?
    Source: ours; the limit of RoTTA's setting, a camera before which nothing else comes by for minutes.
    """
    present = np.unique(setting.labels)
    turns = setting.drawn(_CLASS_CHOICE).permutation(present)
    long = round(_ONE_CLASS_SHARE * setting.frames)
    for place, name in enumerate(setting.corruptions):
        label = int(turns[place % len(turns)])
        yield Piece(setting.of_class(label, name, long), name, setting.severity, part="one class")
        after = setting.images(name, setting.frames - long)
        yield Piece(after, name, setting.severity, part="at random after")


def recurring(setting: Setting) -> Iterator[Piece]:
    """The practical stream 20 times over: a tenth of the frames of each corruption a visit, the same at each.

    Asks: does it grow worse with time, and does it know a place again?
    Source: recurring test-time adaptation of PeTTA (Hoang et al. 2024, arXiv 2311.18193), which shows all images of a
    corruption at each visit; a tenth keeps the stream twice as long as the others instead of twenty times.
    """
    count = max(1, setting.frames // 10)
    for visit in range(_VISITS):
        for place, name in enumerate(setting.corruptions):
            images = _in_runs(setting.images(name, count), setting, place, visit)
            yield Piece(images, name, setting.severity, visit + 1, f"visit {visit + 1}")


def mixed(setting: Setting) -> Iterator[Piece]:
    """The continual stream's frames, all shuffled: every frame has a corruption of its own.

    Asks: what is it worth where there is no common shift to adapt to?
    Source: mixed shifts of SAR (Niu et al. 2023, arXiv 2302.12400).
    """
    images = np.concatenate([setting.images(name, setting.frames) for name in setting.corruptions])
    names = np.repeat(setting.corruptions, setting.frames)
    order = setting.drawn(_MIXTURE).permutation(len(images))
    yield Piece(images[order], MIXED, setting.severity, corruptions=[str(name) for name in names[order]])


def gradual(setting: Setting) -> Iterator[Piece]:
    """In each corruption the severity goes 1 2 3 4 5 4 3 2 1, a ninth of its frames each, classes at random.

    Asks: does it follow small steps?
    Source: the gradual set-up of CoTTA (Wang et al. 2022, arXiv 2203.13591), which shows all images at
    each severity.
    """
    for name in setting.corruptions:
        for grade, images in zip(
            _GRADES, np.array_split(setting.images(name, setting.frames), len(_GRADES)), strict=True
        ):
            yield Piece(images, name, grade, part=f"severity {grade}")


def sudden(setting: Setting) -> Iterator[Piece]:
    """Short visits: 100 frames a corruption, ten times over in a random order, classes at random.

    Asks: how fast is it after a change?
    Source: ours; as CCC (Press et al. 2023, arXiv 2306.05401) in that no place lasts, but without its transitions.
    """
    rounds = -(-setting.frames // _SHORT_VISIT)
    cut = {name: np.array_split(setting.images(name, setting.frames), rounds) for name in setting.corruptions}
    last = None
    for visit in range(rounds):
        order = list(setting.drawn(_ROUND_ORDER, visit).permutation(setting.corruptions))
        if order[0] == last:  # a change that is none
            order.append(order.pop(0))
        for name in order:
            yield Piece(cut[name][visit], str(name), setting.severity, visit + 1, f"visit {visit + 1}")
        last = order[-1]


def garbage(setting: Setting) -> Iterator[Piece]:
    """The continual stream, with 30 % of all frames noise, black, or of another data set, a third each.

    Only the answers to valid frames are counted.

    Asks: does it learn from what is no picture at all?
    Source: noisy streams of SoTTA (Gong et al. 2023, arXiv 2310.10074), with kinds and share of our own.
    """
    for place, name in enumerate(setting.corruptions):
        generator = setting.drawn(_GARBAGE, place)
        count = round(setting.frames * _GARBAGE_SHARE / (1 - _GARBAGE_SHARE))
        kinds = np.zeros(setting.frames + count, np.int8)
        kinds[: setting.frames] = -1
        kinds[setting.frames :] = 1 + np.arange(count) % 3
        kinds = generator.permutation(kinds)
        images = generator.integers(0, 2**31, len(kinds))  # of the other set: taken modulo its size
        images[kinds != Kind.OTHER] = 0
        images[kinds == -1] = setting.images(name, setting.frames)
        yield Piece(images, name, setting.severity, kinds=np.maximum(kinds, 0).astype(np.int8))


def clean(setting: Setting) -> Iterator[Piece]:
    """The continual stream, a quarter as many clean frames after each corruption, and a corruption's number at the end.

    Asks: does it forget how to see what it was trained on?
    Source: forgetting on clean images as EATA measures it (Niu et al. 2022, arXiv 2204.02610).
    """
    between = max(1, setting.frames // 4)
    images = setting.clean_images(between * len(setting.corruptions) + setting.frames)
    for place, name in enumerate(setting.corruptions):
        yield Piece(setting.images(name, setting.frames), name, setting.severity, part="corrupted")
        yield Piece(images[place * between :][:between], CLEAN, 0, place + 1, "clean between")
    # Straight after the last: these two are one stay among clean images.
    yield Piece(images[-setting.frames :], CLEAN, 0, len(setting.corruptions), "clean after")


@dataclass(frozen=True)
class Protocol:
    """A kind of stream.

    Attributes:
        name: What `--stream` calls it.
        pieces: Makes it.
    """

    name: str
    pieces: Callable[[Setting], Iterator[Piece]]

    @property
    def summary(self) -> str:
        """What it is, in one sentence."""
        return " ".join((self.pieces.__doc__ or "").partition("\n\n")[0].split())

    @property
    def asks(self) -> str:
        """What it wants to know of a method."""
        return " ".join((self.pieces.__doc__ or "").partition("Asks: ")[2].partition("Source: ")[0].split())

    @property
    def source(self) -> str:
        """The paper, in one sentence."""
        return " ".join((self.pieces.__doc__ or "").partition("Source: ")[2].split())


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        name: Protocol(name, pieces)
        for name, pieces in {
            "continual": continual,
            "practical": practical,
            "sorted": by_class,
            "one-class": one_class,
            "recurring": recurring,
            "mixed": mixed,
            "gradual": gradual,
            "sudden": sudden,
            "garbage": garbage,
            "clean": clean,
        }.items()
    }
)
"""Name -> protocol, in the order in which results are shown."""


def plan_stream(
    protocol: str,
    labels: NDArray[np.int64],
    corruptions: Sequence[str],
    frames: int,
    *,
    severity: int = 5,
    seed: int = 0,
) -> FramePlan:
    """The frames of a stream.

    Args:
        protocol: A name of `PROTOCOLS`.
        labels: int64 `[M]`, of the image set.
        corruptions: Names, in the order in which they are played.
        frames: Valid frames a corruption, at least 1.
        severity: 1 to 5.
        seed: Of all that is drawn.
    """
    setting = Setting(labels, tuple(corruptions), frames, severity, seed)
    pieces = [piece for piece in PROTOCOLS[protocol].pieces(setting) if len(piece.images)]
    return joined(pieces, labels, corruptions, protocol, seed)


def _in_runs(images: Places, setting: Setting, *what: int) -> Places:
    """The same images, dealt out as RoTTA's sampler does."""
    generator = setting.drawn(_CLASS_ORDER, *what)
    labels = setting.labels[images]
    classes = np.unique(setting.labels)
    slots: list[list[Places]] = [[] for _ in range(min(len(classes), _MOST_SLOTS))]
    for label in classes:
        own = images[labels == label]
        shares = generator.dirichlet([_DIRICHLET] * len(slots))
        cuts = (np.cumsum(shares)[:-1] * len(own)).astype(np.int64)
        for slot, dealt in zip(slots, np.split(own, cuts), strict=True):
            slot.append(dealt)
    return np.concatenate([slot[place] for slot in slots for place in generator.permutation(len(slot))])
