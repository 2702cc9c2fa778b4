"""Take the widest network out of a bank that fits a device, and make its bundle.

Two or three widths are measured to learn what memory and time cost on this network: the widest, the narrowest, and one
that is about at the limit. Then widths are searched, group by group, for those that answer most like the whole network
and cost no more than one ratio for all groups. A budget is what `ecotta plan` says of the bundle for the device, its
adapting step included; times are the processor's, measured here with one thread. The widest that is predicted to be
within the limit is exported, planned and timed itself; where that does not fit after all, the next one is tried. Exit
code 3 when no width fits, with the nearest.

What was measured is kept in BANK.costs.json, so that a pick for the next board takes about half of the time. With --ms
all is measured anew, since other work here may have slowed it down; and so is where by that file nothing would fit.

BANK is from `ecotta student slim`. It holds frames of the target, so no pictures are needed. For a bank of a network of
your own name its factory, --network FILE.py:FACTORY: that code is run.

Writes OUT.safetensors, which `ecotta prepare` takes (for a factory as its --checkpoint), and OUT.ecotta, the bundle,
whose meta groups start as an identity; `ecotta prepare OUT.safetensors --data ...` warms them up, which pays.

examples:
  ecotta student pick bank.safetensors --device raspberry-pi-zero-2w -o door.safetensors
  ecotta student pick bank.safetensors --device raspberry-pi-4-2gb --ms 10 -o door.safetensors
  ecotta student pick bank.safetensors --device pixel --limit 100MB -o app.safetensors --plot widths.svg
  ecotta student pick bank.safetensors --network my_net.py:make --device jetson-nano --step-batch 16 -o yard.safetensors
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.cli.parser import batch_size, integer, thread_count
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.atomic import check_target
from ecotta_rt.files.figure import check_figure
from ecotta_rt.files.sizes import byte_size
from ecotta_rt.messages import in_columns, show
from ecotta_rt.student.pick_request import check_pick

if TYPE_CHECKING:
    from ecotta_rt.student.slimda.device_cost import Measured
    from ecotta_rt.student.slimda.picking import Picked
    from ecotta_rt.student.slimda.search import Candidate

__all__ = ["NAME", "add_arguments", "run"]

NAME = "pick"

_TITLE = "ecotta student pick"
_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("bank", metavar="BANK", type=Path, help="a bank (.safetensors)")
    add("--device", metavar="ID", required=True, help="a device id, or a profile of your own: see ecotta devices")
    add(
        "-o", "--out", type=Path, required=True, metavar="OUT.safetensors", help="the network; its bundle stands beside"
    )
    add("--network", metavar="FILE.py:FACTORY", help="of a bank that is of no model of ours")
    add("--limit", metavar="SIZE", help="what the process may have (default: the device's limit)")
    add("--ms", type=float, metavar="T", help="milliseconds a frame that the adapting step may take on this machine")
    add("--step-batch", type=batch_size, default=1, metavar="N", help="frames a step (default 1)")
    add("--parts", type=integer, default=4, metavar="K", help="parts to cut the network into (default 4)")
    add("--tries", type=integer, default=8, metavar="N", help="random narrowings for each budget (default 8)")
    add("--plot", type=Path, metavar="FILE", help="draw error estimate against memory and time (.png or .svg)")
    add("--seed", type=integer, default=0, help="of the search (default 0)")
    add("--threads", type=thread_count, metavar="N", help="threads of torch (default: its choice)")
    add("--force", action="store_true", help="replace files that exist")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Export some, search, export what fits."""
    _check(args)
    from ecotta_rt.cli.student_watch import ShownWatch
    from ecotta_rt.machine.device import load_device
    from ecotta_rt.prepare.pipeline import use_threads
    from ecotta_rt.student import pick
    from ecotta_rt.student.slimda.bank import load_bank
    from ecotta_rt.student.slimda.kept_costs import costs_path

    if args.plot is not None:
        check_figure(args.plot)
    use_threads(args.threads)
    device, watch = load_device(args.device), ShownWatch(_TITLE)
    bank = load_bank(args.bank, args.network, watch.tell)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    picked = pick(
        bank,
        args.device,
        args.out,
        limit_bytes=byte_size(args.limit),
        ms=math.inf if args.ms is None else args.ms,
        step_batch=args.step_batch,
        parts=args.parts,
        tries=args.tries,
        seed=args.seed,
        costs=costs_path(args.bank),
        watch=watch,
    )
    seconds, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    if args.plot is not None:
        from ecotta_rt.student.slimda.plot import draw_widths

        draw_widths(picked.candidates, picked.chosen, args.plot, device.name)
    facts = {"schema": 1, "bank": str(args.bank), "device": device.id, **picked.as_json()}
    write_json(args.json, {**facts, "seconds": seconds, "cpu_seconds": cpu_s, "recipe": dict(bank.recipe)})
    if args.json != STDOUT:
        _print(args, device.name, picked)
    if picked.refusal is not None:
        raise picked.refusal
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what can be refused before torch is imported."""
    if not args.bank.is_file():
        raise InputFileError(f"{args.bank}: no such file")
    ms = math.inf if args.ms is None else args.ms
    stem = check_pick(args.bank, args.out, ms=ms, tries=args.tries, parts=args.parts)
    for path in (args.out, stem.with_name(f"{stem.name}.ecotta")):
        if path.exists() and not args.force:
            raise UsageError(f"{path} exists; --force replaces it, --out chooses another name")
        check_target(path)
    check_json(args.json, args.bank, args.out)


def _print(args: argparse.Namespace, device: str, picked: "Picked") -> None:
    chosen = picked.chosen
    rows: list[Sequence[str]] = [("operations", "error estimate", "MiB", "ms a frame", "")]
    for one in picked.candidates:
        measured = next((each for each in picked.measured if each.widths == one.widths), None)
        rows.append(_row(one, measured, chosen is not None and chosen.widths == one.widths))
    show(f"{args.bank} on {device}; error estimate: distance of answers from the whole network's (UPEM)")
    show(in_columns(rows, right=range(4)))
    show("~ is predicted from those that were measured")
    if chosen is None:
        return
    share = 100 * chosen.cost.peak_bytes / chosen.plan.limit_bytes
    show(
        f"{args.out}: {chosen.cost.peak_bytes / _MIB:.1f} MiB planned, {share:.0f} % of the limit of "
        f"{chosen.plan.limit_bytes / _MIB:.1f} MiB; {chosen.cost.ms:.2f} ms a frame here"
    )
    show(f"{chosen.bundle}")


def _row(one: "Candidate", measured: "Measured | None", chosen: bool) -> Sequence[str]:
    cost = one.cost if measured is None else measured.cost
    about = "~" if measured is None else ""
    return (
        f"{one.share:.3f}",
        f"{one.upem:.3f}",
        f"{about}{cost.peak_bytes / _MIB:.1f}",
        f"{about}{cost.ms:.2f}",
        "chosen" if chosen else "one ratio" if one.uniform else "",
    )
