"""A memory of places: notice that the surroundings have changed, hurry after them, and recall those that are known.

What a place looks like is told by the first norm alone, since what the others see hangs on the statistics before them.
A frame's key is k = W ([b, ln s] - centre): mean and spread of each channel there, whitened over frames of the source,
so that what hardly varies within a place counts most. With k_p the mean key of the present place, z = clip(k - k_p,
-4, 4) and the distance of a frame D = mean z^2:

    an odd frame    D > 5 times the usual: it moves neither the statistics nor k_p.
    a new place     the trend e <- e + (z - e) / 10 of frames that are not odd is far from 0: mean e^2 > max(1/4, 3
                    times its usual value). Or the last seven frames were all odd: garbage comes and goes. The median of
                    the last seven keys is the new one.
    a known one     a cumulative sum of how much nearer the frames lie to place j than to the present one,
                    S_j <- max(0, S_j + clip(D - D_j, -1.5, 1.5) - 0.2), passes 5, or 1/2 where a change shows too,
                    and at least three frames spoke for it: those with D_j up to 3 times the usual D.

What is usual is the quantile 0.2, so that garbage among the frames hardly moves it, and kept within limits. Whitening
makes frames of the source scatter by about 1 in each number; what scatters much less (a picture that stood still for
long) would make all others odd for ever, and what scatters much more would let garbage in, more of it with each frame.

After a change the statistics of the place that was left are kept, as they were some frames ago. Those of a known place
are put back. In a new one the momentum is that of a plain average over the frames so far, which ends at the usual u:

    u_n = max(u, min(0.12, 1 / (n + 8))),      n: frames since the change

Source:
    Page 1954, Continuous inspection schemes, Biometrika 41, for the cumulative sum; the rest is our own. All constants
    were chosen on corrupted training images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.channels import Channels, Moments
from ecotta_rt.errors import UsageError

__all__ = ["Change", "Key", "Places", "saved_numbers"]

Floats = NDArray[np.float32]

_MOST_UNITS = np.float32(4)
_ODD = 5.0
_TREND_RATE = np.float32(0.1)
_LEAST_TREND, _UNUSUAL = 0.25, 3.0
_USUAL_RATE, _QUANTILE = 0.03, 0.2
_USUAL = {"usual": (0.05, 0.6), "usual_trend": (0.005, 0.08)}  # limits of what is usual
_SLACK, _SURE, _LIKELY, _MOST_SURE = 0.2, 5.0, 0.5, 10.0
_FITS, _MOST_EVIDENCE, _LEAST_FRAMES = 3.0, 1.5, 3
_KEY_RATE = 0.02
_RECENT = 7
_MOST_MOMENTUM, _HEAD_START = 0.12, 8.0
_SETTLED = 30  # frames after which a place is worth remembering
_SNAPSHOT_EVERY = 16
_LONG_AGO = 1e6
_AFTER_RECALL = 40.0  # a place is as it was, but for little
_SAME = 0.3
_LEAST_SPREAD = np.float32(1e-8)
_KEY_ARRAYS = ("key_norm", "key_centre", "key_whitening")
_NUMBERS = ("known", "usual", "usual_trend", "since_change", "stay", "snapshots", "changes", "recalls")
_COUNTS = tuple(name for name in _NUMBERS if name not in _USUAL)
_MOST_COUNT = 2.0**31
_MOST_USUAL = 10.0  # ten times what it can be, for states of other limits


class Change(NamedTuple):
    """A change of place that was noticed.

    Attributes:
        size: How far the new place lies from the one that was left, in units of the usual distance D of a frame.
        known: Whether its statistics were recalled.
    """

    size: float
    known: bool


@dataclass(frozen=True, eq=False)
class Key:
    """How a frame says where it is: made at the source.

    Attributes:
        norm: The norm that frames meet first.
        centre: float32 `[2 C']`, the mean of [b, ln s] there over frames of the source.
        whitening: float32 `[2 C', 2 C']`, W.
    """

    norm: str
    centre: Floats
    whitening: Floats

    def of(self, frame: Moments) -> Floats:
        """The key of a frame, float32 `[2 C']`, from its own moments at the norm, each float32 `[C']`."""
        return np.asarray(self.whitening @ (_features(frame.means, frame.variances) - self.centre), np.float32)

    @classmethod
    def measured(cls, norm: str, frames: Moments) -> "Key":
        """From frames of the source: their own moments at that norm, each float32 `[N, C']`.

        Raises:
            UsageError: Fewer than two frames.
        """
        seen = _features(frames.means, frames.variances).astype(np.float64)
        if len(seen) < 2:
            raise UsageError(f"{len(seen)} frames to tell places apart by: give some hundred")
        centre = seen.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((seen - centre).T))
        # Directions that hardly vary at all would be noise blown up.
        scale = 1 / np.sqrt(np.maximum(values, 1e-6 * values.max()))
        return cls(norm, centre.astype(np.float32), (scale[:, None] * vectors.T).astype(np.float32))

    def arrays(self, channels: Channels) -> dict[str, Floats]:
        """To be stored beside the class tables."""
        place = np.array([channels.norms.index(self.norm)], np.float32)
        return {"key_norm": place, "key_centre": self.centre, "key_whitening": self.whitening}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], channels: Channels) -> "Key | None":
        """Read what `arrays` gave; None where it is not among them.

        Raises:
            UsageError: Something is missing, of another size or not finite.
        """
        if not any(name in arrays for name in _KEY_ARRAYS):
            return None
        if missing := [name for name in _KEY_ARRAYS if name not in arrays]:
            raise UsageError(f"the key of places lacks {missing[0]!r}")
        place, centre, whitening = (np.asarray(arrays[name], np.float32) for name in _KEY_ARRAYS)
        if place.shape != (1,) or place[0] not in range(len(channels.norms)):
            raise UsageError(f"the key of places is at norm {place.tolist()}, expected one of {len(channels.norms)}")
        size = 2 * channels.sizes[int(place[0])]
        if centre.shape != (size,) or whitening.shape != (size, size):
            raise UsageError(f"the key of places is {list(centre.shape)} and {list(whitening.shape)}, expected {size}")
        if not (np.isfinite(centre).all() and np.isfinite(whitening).all()):
            raise UsageError("the key of places holds NaN or infinity")
        return cls(channels.norms[int(place[0])], centre, whitening)


class Places:
    """Notices changes of place in one stream, and remembers the statistics of places.

    Args:
        source: Statistics at the source: the place that is always known.
        keys: D, numbers in a key.
        capacity: Places that are remembered beside the source; the one left longest ago makes room. 0: changes are
            noticed, and nothing is recalled.

    Attributes:
        change: The last one that was noticed since this object was made or somebody set it to None; it is not saved.
    """

    def __init__(self, source: Moments, keys: int, capacity: int) -> None:
        self._capacity = capacity
        self._known = np.stack([np.stack(source)] * (capacity + 1))  # the source, then from the longest ago
        self._known_keys = np.zeros((capacity + 1, keys), np.float32)
        self._sums = np.zeros((capacity + 1, 2), np.float32)  # of each: S_j, and how many frames spoke for it
        self._snapshots = np.stack([np.stack(source)] * 2)  # the older first
        self._key, self._trend = np.zeros(keys, np.float32), np.zeros(keys, np.float32)
        self._recent = np.zeros((_RECENT, keys), np.float32)  # the last keys, the newest last
        self._numbers = dict.fromkeys(_NUMBERS, 0.0)
        self._numbers |= {"usual": float(np.float32(0.4)), "usual_trend": float(np.float32(0.03))}
        self._numbers |= {"since_change": _LONG_AGO, "stay": float(_SETTLED), "snapshots": 2.0}
        self.change: Change | None = None
        self._odd = False  # the last frame
        self._odds = np.zeros(_RECENT, np.float32)  # which of the last frames are

    @property
    def changes(self) -> int:
        """How many were noticed."""
        return int(self._numbers["changes"])

    @property
    def recalls(self) -> int:
        """In how many of them a known place was found."""
        return int(self._numbers["recalls"])

    def momentum(self, usual: Floats) -> Floats:
        """Of each channel for the frame just looked at: `usual`, more after a change, 0 where it is odd; 0 stays 0."""
        if self._odd:
            return np.zeros_like(usual)
        hurried = min(_MOST_MOMENTUM, 1 / (self._numbers["since_change"] + _HEAD_START))
        return np.where(usual > 0, np.maximum(usual, np.float32(hurried)), np.float32(0))

    def notice(self, key: Floats, now: Moments) -> Moments | None:
        """Look at a frame, before the statistics move by it.

        Args:
            key: float32 `[D]`, the frame's, finite.
            now: The statistics.

        Returns:
            Statistics to go on from instead, where a known place was found.
        """
        numbers = self._numbers
        numbers["since_change"] = min(numbers["since_change"] + 1, _LONG_AGO)
        numbers["stay"] += 1 if numbers["stay"] < _LONG_AGO else 1 - _SNAPSHOT_EVERY  # it counts on, and stays exact
        units = _units(key - self._key)
        distance = float(units @ units) / len(units)
        self._odd = distance > _ODD * numbers["usual"]
        self._recent[:-1], self._recent[-1] = self._recent[1:].copy(), key
        self._odds[:-1], self._odds[-1] = self._odds[1:].copy(), self._odd
        if not self._odd:
            self._trend += _TREND_RATE * (units - self._trend)
        trend = float(self._trend @ self._trend) / len(units)
        changed = bool(self._odds.all()) or trend > max(_LEAST_TREND, _UNUSUAL * numbers["usual_trend"])
        known = self._compare(key, distance, _LIKELY if changed else _SURE) if self._capacity else None
        if known is not None:
            return self._recall(known)
        if changed:
            self._leave(np.median(self._recent, axis=0), known=False)
        else:
            self._stay_here(key, distance, trend, now)
        return None

    def _compare(self, key: Floats, distance: float, least: float) -> int | None:
        """The known place that the last frames lie nearer to than to the present one, for sure."""
        count = 1 + int(self._numbers["known"])
        units = _units(key - self._known_keys[:count])
        distances = np.einsum("jd,jd->j", units, units) / np.float32(len(key))
        sums = self._sums[:count]
        nearer = _within(distance - distances, -_MOST_EVIDENCE, _MOST_EVIDENCE) - _SLACK
        fits = distances <= _FITS * self._numbers["usual"]
        sums[:, 0] = _within(sums[:, 0] + np.where(fits, nearer, np.minimum(nearer, 0)), 0, _MOST_SURE)
        sums[:, 1] = np.where(sums[:, 0] > 0, sums[:, 1] + fits, 0)
        sure = np.where(sums[:, 1] >= _LEAST_FRAMES, sums[:, 0], 0)
        return int(sure.argmax()) if sure.max() > least else None

    def _recall(self, place: int) -> Moments:
        recalled, key = self._known[place].copy(), self._known_keys[place].copy()
        self._leave(key, known=True)
        self._numbers["recalls"] += 1
        self._numbers["since_change"] = self._numbers["stay"] = _AFTER_RECALL
        self._snapshots[:] = recalled
        self._numbers["snapshots"] = 2.0
        return Moments(*recalled)

    def _leave(self, key: Floats, known: bool) -> None:
        """Go to the place of that key; remember the one that was left, if the stay was long enough to know it."""
        numbers = self._numbers
        self.change = Change(_apart(key, self._key) / numbers["usual"], known)
        numbers["changes"] += 1
        if self._capacity and numbers["stay"] >= _SETTLED and numbers["snapshots"]:
            self._remember(self._snapshots[0 if numbers["snapshots"] > 1 else 1].copy())
        numbers["stay"] = numbers["snapshots"] = numbers["since_change"] = 0.0
        self._trend[:] = self._sums[:] = self._odds[:] = 0
        self._key = key

    def _remember(self, place: Floats) -> None:
        """As the one that was left last; it replaces those that are no other place."""
        others = range(1, 1 + int(self._numbers["known"]))
        if _apart(self._key, self._known_keys[0]) < _SAME:
            return
        kept = [j for j in others if _apart(self._key, self._known_keys[j]) >= _SAME][-(self._capacity - 1) :]
        kept = kept if self._capacity > 1 else []
        end = 1 + len(kept)
        self._known[1:end], self._known_keys[1:end] = self._known[kept], self._known_keys[kept]
        self._known[end], self._known_keys[end] = place, self._key
        self._numbers["known"] = float(end)

    def _stay_here(self, key: Floats, distance: float, trend: float, now: Moments) -> None:
        numbers = self._numbers
        if not self._odd:
            rate = max(_KEY_RATE, 1 / (_RECENT + numbers["since_change"]))
            self._key += np.float32(rate) * (key - self._key)
        for name, value in (("usual", distance), ("usual_trend", trend)):
            # This ends at the quantile, which garbage moves little.
            moved = numbers[name] * (1 + _USUAL_RATE * (_QUANTILE if value > numbers[name] else _QUANTILE - 1))
            # As it will be saved: a run that goes on from its state goes on bit for bit.
            numbers[name] = float(np.float32(min(max(moved, _USUAL[name][0]), _USUAL[name][1])))
        if numbers["stay"] >= _SETTLED and numbers["stay"] % _SNAPSHOT_EVERY == 0:
            self._snapshots[0] = self._snapshots[1]
            self._snapshots[1] = now
            numbers["snapshots"] = min(numbers["snapshots"] + 1, 2.0)

    def arrays(self) -> dict[str, Floats]:
        """All that stays from frame to frame, as copies, each of a size that never changes."""
        arrays = {name: getattr(self, f"_{name}").copy() for name in _ARRAYS}
        return {**arrays, "numbers": np.array(list(self._numbers.values()), np.float32)}

    def restore(self, arrays: Mapping[str, Floats]) -> None:
        """Go on from what `arrays` gave. When it fails, all is as it was.

        Raises:
            UsageError: Of other sizes, or numbers that cannot be.
        """
        for name, array in self.arrays().items():
            if name not in arrays or arrays[name].shape != array.shape:
                raise UsageError(f"memory of places: {name!r} is of another network, or was saved with other options")
        numbers = dict(zip(_NUMBERS, arrays["numbers"].tolist(), strict=True))
        usual = all(0 < numbers[name] <= _MOST_USUAL for name in _USUAL)
        if not usual or not all(map(_is_count, (numbers[name] for name in _COUNTS))):
            raise UsageError(f"memory of places: {numbers} is damaged, expected counts from 0; start afresh")
        if numbers["known"] > self._capacity or numbers["snapshots"] > 2:
            raise UsageError(
                f"memory of places: {numbers} is damaged, expected up to {self._capacity} known and 2 snapshots; "
                "start afresh"
            )
        self._numbers = numbers
        for name in _ARRAYS:
            setattr(self, f"_{name}", arrays[name].copy())


def saved_numbers(arrays: Mapping[str, NDArray[Any]]) -> dict[str, int] | None:
    """The counts in what `Places.arrays` gave, for people; None: there are none, or none that can be gone on from.

    Returns:
        `known` places beside the source, `changes` that were noticed, `recalls` of them to a known place, `stay` and
        `since_change` in frames, `snapshots`.
    """
    numbers = arrays.get("numbers")
    if numbers is None or numbers.shape != (len(_NUMBERS),):
        return None
    named = dict(zip(_NUMBERS, numbers.tolist(), strict=True))
    counts = {name: named[name] for name in _COUNTS}
    return {name: int(count) for name, count in counts.items()} if all(map(_is_count, counts.values())) else None


def _is_count(number: float) -> bool:
    return 0 <= number < _MOST_COUNT and number == int(number)


_ARRAYS = ("known", "known_keys", "sums", "snapshots", "key", "trend", "recent", "odds")


def _features(means: Floats, variances: Floats) -> Floats:
    features: Floats = np.concatenate([means, np.log(np.maximum(variances, _LEAST_SPREAD))], axis=-1)
    return features


def _units(distance: Floats) -> Floats:
    return _within(distance, -_MOST_UNITS, _MOST_UNITS)


def _within(values: Floats, least: float | np.floating, most: float | np.floating) -> Floats:
    """As `np.clip`, in half its time for so few numbers."""
    return np.minimum(np.maximum(values, np.float32(least)), np.float32(most))


def _apart(key: Floats, other: Floats) -> float:
    units = _units(key - other)
    return float(np.mean(units * units))
