"""What a width costs on a device: what `ecotta plan` says of its bundle, and the time of its adapting step here.

    Bundles.measure(widths)  ->  planned memory, measured ms a frame      a second or two each
    fitted(measured)         ->  predict(widths)                          microseconds each
    Bundles.make(widths)     ->  the same, and where it fits the files

A search asks for hundreds of widths, so three at most are measured, and of the others memory and time are predicted: a
constant, a part for each number in the outputs of convolutions, and one for each weight or multiplication. To be
measured a width needs the graph that learns alone. A plan for another device needs the manifest and nothing else, so
what was measured for one serves all: see `kept_costs`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from ecotta_rt.bundle import Manifest, read_bundle
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.exporter.traced import Traced
from ecotta_rt.machine.device import DeviceProfile
from ecotta_rt.method.width.groups import ChannelGroups, Widths
from ecotta_rt.plan.budget import Plan, Wish, alternatives, fastest
from ecotta_rt.prepare.pipeline import export_bundle, prepare_without_data, warmed_path
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.student.slimda.bank import Bank
from ecotta_rt.student.slimmable.widths import operations, outputs, weights

__all__ = ["Bundles", "Cost", "Measured", "fitted"]

_STEPS, _LONG_S = 8, 0.15
"""Of timing: so many steps, or fewer that took so long."""

_MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """What a width costs.

    Attributes:
        peak_bytes: Of the process that adapts, the larger of loading and running, as planned for the device.
        ms: A frame, of the adapting step on this machine's processor.
    """

    peak_bytes: float
    ms: float

    def within(self, other: "Cost") -> bool:
        """Whether it is no more in either."""
        return self.peak_bytes <= other.peak_bytes and self.ms <= other.ms

    def times(self, factor: float) -> "Cost":
        """More, or less, of both."""
        return Cost(factor * self.peak_bytes, factor * self.ms)


@dataclass(frozen=True)
class Measured:
    """A width that was measured.

    Attributes:
        widths: Its channels.
        cost: Planned memory, measured time.
        plan: How it would run on the device; where nothing fits, the way that needs least.
        manifest: Of its bundle, by which it can be planned for other devices.
        bundle: The file; None where it was only measured.
    """

    widths: Widths
    cost: Cost
    plan: Plan
    manifest: Manifest
    bundle: Path | None = None

    def fits(self, most_ms: float) -> bool:
        """Whether the device has the memory, and a frame takes no longer."""
        return self.plan.fits and self.cost.ms <= most_ms


@dataclass(frozen=True)
class Bundles:
    """Makes bundles of widths, as `ecotta prepare` does without data.

    Attributes:
        bank: Whose.
        device: Planned for.
        wish: What is asked of the plan.
        options: What a bundle holds.
        parts: K.
        kernel: Side of the meta convolutions.
    """

    bank: Bank
    device: DeviceProfile
    wish: Wish
    options: ExportOptions
    parts: int
    kernel: int

    def measure(self, widths: Widths, stem: Path) -> Measured:
        """Make what learns, plan it, and take a step or some; the files are of no use to anybody else.

        Raises:
            NetworkError: It cannot be cut into so many parts, or exported.
            UsageError: The bundle has no graph for the wish.
            TransferError: A file cannot be written.
        """
        return self._learning(widths, stem, self._prepared(widths, stem), {})

    def make(self, widths: Widths, stem: Path, most_ms: float, *, sure: bool = False) -> Measured:
        """As `measure`; where it fits, write `STEM.safetensors`, `STEM.ecotta-kK.safetensors` and `STEM.ecotta`.

        Args:
            widths: Its channels.
            stem: Where to, without suffix.
            most_ms: What a frame may take.
            sure: It is known to fit, or all but known: make all graphs at once.

        Raises:
            NetworkError, UsageError, TransferError: As `measure`.
        """
        network, traces = self._prepared(widths, stem), dict[str, Traced]()
        ms = None
        if not sure:
            found = self._learning(widths, stem, network, traces)
            if not found.fits(most_ms):
                return found
            ms = found.cost.ms
        bundle = self._exported(network, stem, self.options, traces)
        manifest = read_bundle(bundle).manifest
        if ms is None:
            ms = self._ms(bundle, self.way(manifest))
        made = self.planned(widths, manifest, ms)
        return replace(made, bundle=bundle) if made.fits(most_ms) else made

    def planned(self, widths: Widths, manifest: Manifest, ms: float) -> Measured:
        """A width that was measured before, for whatever device."""
        way = self.way(manifest)
        return Measured(dict(widths), Cost(way.peak_bytes, ms), way, manifest)

    def way(self, manifest: Manifest) -> Plan:
        """The fastest way to run it that fits the device, or the one that needs least."""
        ways = alternatives(manifest, self.device, self.wish)
        return fastest(ways) if any(way.fits for way in ways) else min(ways, key=lambda each: each.peak_bytes)

    def _prepared(self, widths: Widths, stem: Path) -> nn.Module:
        network = self.bank.save_at(widths, stem.with_name(f"{stem.name}.safetensors"))
        prepare_without_data(network, stem, frame=self.bank.frame, parts=self.parts, kernel=self.kernel)
        return network

    def _exported(self, network: nn.Module, stem: Path, options: ExportOptions, traces: dict[str, Traced]) -> Path:
        bundle = stem.with_name(f"{stem.name}.ecotta")
        export_bundle(network, warmed_path(stem, self.parts), bundle, options, traces=traces)
        return bundle

    def _learning(self, widths: Widths, stem: Path, network: nn.Module, traces: dict[str, Traced]) -> Measured:
        bundle = self._exported(network, stem, replace(self.options, learning_only=True), traces)
        manifest = read_bundle(bundle).manifest
        return self.planned(widths, manifest, self._ms(bundle, self.way(manifest)))

    def _ms(self, bundle: Path, way: Plan) -> float:
        """Of a frame, with one thread: the median over some steps after one that warms up.

        Time is the processor's, so that what else runs here counts for little.
        """
        runtime = Runtime.load(
            bundle,
            batch=way.batch,
            frame_by_frame=way.frame_by_frame,
            fast=way.fast,
            adapt=True,
            threads=1,
            verify=False,
        )
        frames = self.bank.frames[np.arange(way.batch) % len(self.bank.frames)]

        def step_s() -> float:
            began = time.process_time()
            runtime(frames)
            return time.process_time() - began

        step_s()
        spent = [step_s()]
        while len(spent) < _STEPS and sum(spent) < _LONG_S:
            spent.append(step_s())
        return 1000 * float(np.median(spent)) / way.batch


def fitted(groups: ChannelGroups, learned: Sequence[Measured]) -> Callable[[Widths], Cost]:
    """Predict what a width costs from some that were measured.

    Args:
        groups: Of the bank.
        learned: At least one; three or more with different widths say how cost grows.
    """
    memory = _line(
        [(outputs(groups, one.widths), weights(groups, one.widths)) for one in learned],
        [one.cost.peak_bytes for one in learned],
    )
    time_ms = _line(
        [(operations(groups, one.widths), outputs(groups, one.widths)) for one in learned],
        [one.cost.ms for one in learned],
    )

    def predict(widths: Widths) -> Cost:
        out = outputs(groups, widths)
        return Cost(memory((out, weights(groups, widths))), time_ms((operations(groups, widths), out)))

    return predict


def _line(given: Sequence[tuple[int, int]], found: Sequence[float]) -> Callable[[tuple[int, int]], float]:
    """Least squares by a constant and two slopes, of two points the first; one below 0 is noise, and is left out."""
    scale = np.maximum(np.max(given, axis=0), 1)
    columns = np.column_stack([np.ones(len(given)), np.array(given) / scale])
    used = [0, 1, 2][: len(given)]
    while True:
        solved = np.linalg.lstsq(columns[:, used], np.array(found), rcond=None)[0]
        negative = [place for place, value in zip(used[1:], solved[1:], strict=True) if value < 0]
        if not negative:
            break
        used.remove(min(negative, key=lambda place: solved[used.index(place)]))
    slopes = np.zeros(3)
    slopes[used] = solved
    return lambda each: float(slopes[0] + slopes[1:] @ (np.array(each) / scale))
