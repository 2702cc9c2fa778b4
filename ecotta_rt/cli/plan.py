"""Say whether a bundle fits a device, how to run it there, and what its memory is made of.

Nothing is run: onnxruntime optimises the graph, and the planner follows its allocator on paper. The peak is the larger
of loading and running. Exit code 3 when nothing fits.

examples:
  ecotta plan net.ecotta --device raspberry-pi-zero-2w
  ecotta plan net.ecotta --device raspberry-pi-4-2gb --batch 64
  ecotta plan net.ecotta --device pixel --limit 150MB      what one part of an app may have
  ecotta plan net.ecotta --device my-board.toml --all      every way to run it, the fastest first
  ecotta plan net.ecotta --device this-machine --json plan.json
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.byte_size import parse_byte_size

if TYPE_CHECKING:
    from ecotta_rt.budget import Plan
    from ecotta_rt.bundle import Bundle
    from ecotta_rt.device import DeviceProfile
    from ecotta_rt.planner.memory_run import MemoryRun

__all__ = ["NAME", "add_arguments", "run"]

NAME = "plan"

_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", type=Path, help="a bundle (.ecotta)")
    add("--device", metavar="ID", required=True, help="a device id, or a profile of your own: see ecotta devices")
    add("--batch", metavar="N", type=int, help="frames a step (default: the smallest the bundle has a step for)")
    add("--no-adapt", action="store_true", help="plan for answering only")
    add("--threads", metavar="N", type=int, help="threads of the network (default 2 where there are two cores)")
    add("--limit", metavar="SIZE", help="what the process may have (default: the device's limit)")
    add("--all", action="store_true", help="show every way to run it, those that do not fit too")
    add(
        "--here", action="store_true", help="plan with this processor's kernels, not those of where the bundle was made"
    )
    add("--json", metavar="FILE", nargs="?", const="-", help="write JSON, to FILE or to standard output")


def run(args: argparse.Namespace) -> int:
    """Plan, and tell."""
    from ecotta_rt.budget import alternatives, plan
    from ecotta_rt.bundle import read_bundle
    from ecotta_rt.device import load_device
    from ecotta_rt.errors import BudgetExceeded, UsageError
    from ecotta_rt.planner.figures import with_figures

    for option, value in (("--batch", args.batch), ("--threads", args.threads)):
        if value is not None and value < 1:
            raise UsageError(f"{option} {value}: give 1 or more")
    limit = None if args.limit is None else parse_byte_size(args.limit)
    bundle, device = read_bundle(args.bundle), load_device(args.device)
    manifest = with_figures(bundle, anew=args.here)
    wanted = {"batch": args.batch, "adapt": not args.no_adapt, "threads": args.threads, "limit_bytes": limit}
    ways = alternatives(manifest, device, **wanted)
    try:
        chosen, refusal = plan(manifest, device, **wanted), None
    except BudgetExceeded as error:
        chosen, refusal = min(ways, key=lambda way: way.peak_bytes), error
    timeline = _timeline(bundle, chosen)
    if args.json is not None:
        _write_json(args.json, chosen, ways if args.all else (), timeline)
    if args.json != "-":
        print("\n".join(_text(args.bundle, device, chosen, ways if args.all else (), timeline)))
    if refusal is not None:
        raise refusal
    return 0


def _timeline(bundle: "Bundle", chosen: "Plan") -> "MemoryRun":
    """The run of the graph that needs most."""
    from ecotta_rt.planner.figures import plan_session

    runs = [plan_session(bundle, name, chosen.optimisation, chosen.threads)[1] for name in chosen.graphs]
    return max(runs, key=lambda run: run.peak_bytes)


def _write_json(target: str, chosen: "Plan", ways: Sequence["Plan"], timeline: "MemoryRun") -> None:
    from ecotta_rt.whole_file import write_whole

    content = {"schema": 1, **chosen.as_json(), "live_bytes": list(timeline.live_bytes)}
    if ways:
        content["alternatives"] = [way.as_json() for way in ways]
    text = json.dumps(content, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        write_whole(Path(target), text.encode())


def _text(
    path: Path, device: "DeviceProfile", chosen: "Plan", ways: Sequence["Plan"], timeline: "MemoryRun"
) -> list[str]:
    from ecotta_rt.planner.picture import picture

    share = f"{100 * chosen.peak_bytes / chosen.limit_bytes:.0f} % of the limit of {_mib(chosen.limit_bytes)} MiB"
    verdict = "fits" if chosen.fits else "DOES NOT FIT"
    lines = [
        f"{path} on {device.name}: {verdict}, {_mib(chosen.peak_bytes)} MiB, {share}",
        "",
        f"  {_way(chosen)}",
        "",
        *(f"  {part.name:<24}{_mib(part.bytes):>8} MiB" for part in chosen.parts),
        f"  {'while running':<24}{_mib(chosen.run_peak_bytes):>8} MiB",
        f"  {'while loading':<24}{_mib(chosen.load_peak_bytes):>8} MiB",
        "",
        f"  Largest tensors at the peak of {_mib(timeline.peak_bytes)} MiB:",
        *(f"  {_mib(tenant.bytes):>8} MiB  {tenant.name}" for tenant in chosen.tenants),
        "",
        f"  Live tensors along the {len(timeline.live_bytes)} nodes of a step:",
        *(f"  {line}" for line in picture(timeline.live_bytes)),
    ]
    if ways:
        lines += ["", "  Every way, the fastest first:"]
        lines += [f"  {_mib(way.peak_bytes):>8} MiB  {'fits' if way.fits else '-':<5} {_way(way)}" for way in ways]
    return lines


def _way(way: "Plan") -> str:
    one_by_one = ", one frame after the other" if way.frame_by_frame else ""
    frames = "1 frame" if way.batch == 1 else f"{way.batch} frames"
    return (
        f"{' + '.join(way.graphs)}: {frames} a step{one_by_one}; threads {way.threads}, "
        f"optimisation {way.optimisation}, memory {way.memory}"
    )


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f}"
