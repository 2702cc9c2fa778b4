"""Say whether a bundle fits a device, how to run it there, and what its memory is made of.

Nothing is run, but with --here: onnxruntime optimises the graph, and the planner follows its allocator on paper. The
peak is the larger of loading and running; what a process has beside its network was measured on x86-64. Exit code 3
when nothing fits.

examples:
  ecotta plan net.ecotta --device raspberry-pi-zero-2w
  ecotta plan net.ecotta --device raspberry-pi-4-2gb --batch 64
  ecotta plan net.ecotta --device pixel --limit 150MB      what one part of an app may have
  ecotta plan net.ecotta --device my-board.toml --all      every way to run it, the fastest first
  ecotta plan net.ecotta --device this-machine --json plan.json
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.cli.parser import batch_size, thread_count
from ecotta_rt.files.sizes import byte_size
from ecotta_rt.messages import show

if TYPE_CHECKING:
    from ecotta_rt.bundle import Bundle
    from ecotta_rt.bundle.figures import SessionFigures
    from ecotta_rt.machine.device import DeviceProfile
    from ecotta_rt.plan.budget import Plan
    from ecotta_rt.plan.planned_run import PlannedRun
    from ecotta_rt.runtime.trial import Trial

__all__ = ["NAME", "add_arguments", "run"]

NAME = "plan"

_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", type=Path, help="a bundle (.ecotta)")
    add("--device", metavar="ID", required=True, help="a device id, or a profile of your own: see ecotta devices")
    add("--batch", metavar="N", type=batch_size, help="frames a step (default: the fewest the bundle has a graph for)")
    learning = parser.add_mutually_exclusive_group().add_argument
    learning("--learning", choices=("off", "on"), help="plan with or without learning (default: as the bundle does)")
    learning("--no-adapt", action="store_true", help="as --learning off")
    add(
        "--threads",
        metavar="N",
        type=thread_count,
        help="threads, at most the device's cores (default 2 where it has two)",
    )
    add("--limit", metavar="SIZE", help="what the process may have (default: the device's limit)")
    add("--all", action="store_true", help="show every way to run this many frames, also those that do not fit")
    add(
        "--here",
        action="store_true",
        help="plan with this processor's kernels, not those of where the bundle was made; then make one step in a "
        "process of its own, and compare",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, and tell."""
    from ecotta_rt.bundle import read_bundle
    from ecotta_rt.errors import BudgetExceeded, UsageError
    from ecotta_rt.machine.device import load_device
    from ecotta_rt.plan.budget import Wish, alternatives, fastest
    from ecotta_rt.plan.figures import with_figures
    from ecotta_rt.runtime.recipe import learns

    check_json(args.json, args.bundle, args.device)
    for option, value in (("--batch", args.batch), ("--threads", args.threads)):
        if value is not None and value < 1:
            raise UsageError(f"{option} {value}: give 1 or more")
    bundle, device = read_bundle(args.bundle), load_device(args.device)
    manifest = with_figures(bundle, anew=args.here)
    asked = "off" if args.no_adapt else args.learning
    adapt = learns(manifest) if asked is None else asked == "on"
    wish = Wish(batch=args.batch, adapt=adapt, threads=args.threads, limit_bytes=byte_size(args.limit))
    ways = alternatives(manifest, device, wish)
    try:
        chosen, refusal = fastest(ways), None
    except BudgetExceeded as error:
        chosen, refusal = min(ways, key=lambda way: way.peak_bytes), error
    name, figures, timeline = _largest_run(bundle, chosen)
    shown_ways = ways if args.all else ()
    tried = _tried(args.bundle, chosen, adapt) if args.here and refusal is None else None
    write_json(args.json, _facts(chosen, shown_ways, timeline, tried))
    if args.json != STDOUT:
        lines = [*_verdict(args.bundle, device, chosen), *_trial_lines(chosen, tried)]
        lines += [*_tensors(name, figures, timeline), *_every_way(shown_ways)]
        show("\n".join(lines))
    if tried is not None:
        _require_honest(args.bundle, chosen, tried)
    if refusal is not None:
        raise refusal
    return 0


def _largest_run(bundle: "Bundle", chosen: "Plan") -> "tuple[str, SessionFigures, PlannedRun]":
    """The graph that needs most, with the threads of the plan: name, figures and run."""
    from ecotta_rt.plan.figures import plan_session

    runs = [(name, *plan_session(bundle, name, chosen.optimisation, chosen.threads)) for name in chosen.graphs]
    return max(runs, key=lambda run: run[2].peak_bytes)


def _tried(path: Path, chosen: "Plan", adapt: bool) -> "Trial":
    from ecotta_rt.runtime.trial import try_bundle

    ways = {"batch": chosen.batch, "frame_by_frame": chosen.frame_by_frame, "fast": chosen.fast, "adapt": adapt}
    most_bytes = _most_honest_bytes(chosen)  # more is not asked of this machine
    return try_bundle(path, {**ways, "options": chosen.session_options(), "memory_limit_bytes": most_bytes})


def _most_honest_bytes(chosen: "Plan") -> int:
    """Other machines have other libraries, and a plan for one without Python leaves the interpreter out."""
    return chosen.peak_bytes * 3 // 2 + 64 * _MIB


def _require_honest(path: Path, chosen: "Plan", tried: "Trial") -> None:
    from ecotta_rt.errors import InputFileError

    if tried.peak_bytes > _most_honest_bytes(chosen):
        raise InputFileError(
            f"{path}: one step took {_mib(tried.peak_bytes)} MiB here and {_mib(chosen.peak_bytes)} MiB are planned: "
            "its figures are false, or it was made for a very different machine; make it again here"
        )


def _trial_lines(chosen: "Plan", tried: "Trial | None") -> list[str]:
    if tried is None:
        return []
    return [
        "",
        f"  Tried here: {_mib(tried.peak_bytes)} MiB at the peak of loading and one step ({_mib(chosen.peak_bytes)} "
        f"MiB planned), loaded in {tried.load_ms / 1000:.1f} s, first step {tried.step_ms:.0f} ms",
    ]


def _facts(chosen: "Plan", ways: Sequence["Plan"], timeline: "PlannedRun", tried: "Trial | None") -> dict[str, object]:
    facts = {"schema": 1, **chosen.as_json(), "live_bytes": list(timeline.live_bytes)}
    if tried is not None:
        facts["tried"] = asdict(tried)
    if ways:
        facts["alternatives"] = [way.as_json() for way in ways]
    return facts


def _verdict(path: Path, device: "DeviceProfile", chosen: "Plan") -> list[str]:
    share = f"{100 * chosen.peak_bytes / chosen.limit_bytes:.0f} % of the limit of {_mib(chosen.limit_bytes)} MiB"
    verdict = "fits" if chosen.fits else "DOES NOT FIT"
    return [
        f"{path} on {device.name}: {verdict}, {_mib(chosen.peak_bytes)} MiB, {share}",
        "",
        f"  {_way(chosen)}",
        "",
        *(f"  {part.name:<24}{_mib(part.bytes):>8} MiB" for part in chosen.parts),
        f"  {'while running':<24}{_mib(chosen.run_peak_bytes):>8} MiB",
        f"  {'while loading':<24}{_mib(chosen.load_peak_bytes):>8} MiB",
    ]


def _tensors(name: str, figures: "SessionFigures", timeline: "PlannedRun") -> list[str]:
    from ecotta_rt.plan.picture import picture

    return [
        "",
        f"  Largest tensors of {name} at its peak of {_mib(timeline.peak_bytes)} MiB:",
        *(f"  {_mib(tenant.bytes):>8} MiB  {tenant.name}" for tenant in figures.tenants),
        "",
        f"  Live tensors along its {len(timeline.live_bytes)} nodes:",
        *(f"  {line}" for line in picture(timeline.live_bytes)),
    ]


def _every_way(ways: Sequence["Plan"]) -> list[str]:
    if not ways:
        return []
    shown = (f"  {_mib(way.peak_bytes):>8} MiB  {'fits' if way.fits else '-':<5} {_way(way)}" for way in ways)
    return ["", "  Every way, the fastest first:", *shown]


def _way(way: "Plan") -> str:
    one_by_one = ", one frame after the other" if way.frame_by_frame else ""
    frames = "1 frame" if way.batch == 1 else f"{way.batch} frames"
    return (
        f"{' + '.join(way.graphs)}: {frames} a step{one_by_one}; threads {way.threads}, "
        f"optimisation {way.optimisation}, memory {way.memory}"
    )


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f}"
