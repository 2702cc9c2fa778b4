"""Show what a training or adaptation step of a network keeps in memory: peak, where it is, by part and by tensor.

The step runs once on random frames; memory depends on shapes only. NETWORK is a model id, a network file of ours
(.safetensors), or a network of your own: FILE.py:FACTORY or PACKAGE.MODULE:FACTORY, called without arguments.

Examples:
  ecotta profile wrn-40-2 --batch 64 --step tent
  ecotta profile wrn-40-2 --batch 64 --step ecotta --parts 4
  ecotta profile resnet-50 --batch 32 --dry                    no arithmetic, no memory: shapes only
  ecotta profile mynet.py:build --batch 16 --size 3x96x96 --limit 200MiB
  ecotta profile resnet-20 --batch 1 --device raspberry-pi-zero-2w --json

Exits with 3 where the step keeps more than --limit, or than the device's default limit. What is kept is a part of what
a process needs: a step that stays below a device's limit may still be too large for it, one above never fits.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.input_files import require_network
from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.cli.parser import add_key_mapping, integer, key_mapping
from ecotta_rt.errors import UsageError
from ecotta_rt.files.sizes import byte_size
from ecotta_rt.machine.device import load_device
from ecotta_rt.messages import in_columns, show
from ecotta_rt.options import NORMALISATIONS

if TYPE_CHECKING:
    from ecotta_rt.profile.profile_report import ActivationReport, KeptStorage
    from ecotta_rt.profile.profiled_steps import StepMaker

__all__ = ["NAME", "SCHEMA", "add_arguments", "run"]

NAME = "profile"

SCHEMA = 1
"""Version of the JSON object."""

_STEPS = ("train", "tent", "ecotta", "forward")
_ECOTTA_OPTIONS = ("parts", "kernel", "normalisation", "frozen_gradient", "frame_by_frame")
_CHANNELS = 3
_LARGEST_BATCH = 65536
_DEFAULT_SIDE = 32
_MIB = 2**20
_SHOWN_KEPT = 10
_SHOWN_OTHERS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("network", metavar="NETWORK", help="a model id, a .safetensors file of ours, or FILE.py:FACTORY")
    add("--batch", type=integer, required=True, metavar="N", help="frames in a batch")
    add("--step", choices=_STEPS, default="train", help="what to run (default train)")
    add("--size", metavar="HxW", help="frame size, HxW or CxHxW (default: the model's own, else 32x32)")
    add("--classes", type=integer, metavar="N", help="number of classes of a model id")
    add("--checkpoint", type=Path, metavar="FILE", help="weights to load into the network")
    add_key_mapping(parser)
    add("--limit", metavar="SIZE", help="largest sum of kept bytes allowed, such as 200MiB")
    add("--device", metavar="ID", help="take the limit from a device: see ecotta devices")
    add("--dry", action="store_true", help="compute nothing: shapes only, for networks too large to run")
    add_json(parser)
    add = parser.add_argument_group("with --step ecotta").add_argument
    add("--parts", type=integer, metavar="K", help="number of parts and meta groups (default 4)")
    add("--kernel", type=integer, metavar="N", help="side of the meta convolutions (default 3; resnet-50: 1)")
    add("--normalisation", choices=NORMALISATIONS, help="default batch")
    add("--frozen-gradient", choices=("exact", "constant"), help="default exact")
    add("--frame-by-frame", action="store_const", const=True, help="accumulate gradients over single frames")


def run(args: argparse.Namespace) -> int:
    """Profile one step and show the report."""
    require_network(args.network, args.checkpoint)
    check_json(args.json, args.network, args.checkpoint)
    limit_bytes = _limit_bytes(args)
    shape = _frame_shape(args)
    _require_ecotta_for_its_options(args)
    report = _profile(args, shape, limit_bytes)
    facts = {"schema": SCHEMA, "network": args.network, "step": args.step, "frames": list(shape)}
    write_json(args.json, {**facts, "limit_bytes": limit_bytes, **report.to_json()})
    if args.json != STDOUT:
        show(f"{args.network}, {args.step} step, frames {'x'.join(map(str, shape))}\n")
        show(_table(report, limit_bytes))
    return 0


def _profile(args: argparse.Namespace, shape: tuple[int, ...], limit_bytes: int | None) -> "ActivationReport":
    from ecotta_rt.prepare.open_network import open_network
    from ecotta_rt.profile.profiled_steps import random_frames
    from ecotta_rt.profile.profiler import profile_step

    network = open_network(
        args.network, classes=args.classes, checkpoint=args.checkpoint, key_mapping=key_mapping(args.key_mapping)
    )
    device = "meta" if args.dry else "cpu"
    step = _step(args)(network.to(device), random_frames(shape, device))
    return profile_step(step.run, step.network, limit_bytes)


def _step(args: argparse.Namespace) -> "StepMaker":
    from ecotta_rt.options import StepOptions
    from ecotta_rt.prepare.pipeline import default_kernel
    from ecotta_rt.profile.profiled_steps import STEPS, make_ecotta_step

    if args.step != "ecotta":
        return STEPS[args.step]
    given = {name: getattr(args, name) for name in ("normalisation", "frozen_gradient", "frame_by_frame")}
    options = StepOptions(**{name: value for name, value in given.items() if value is not None})
    kernel = default_kernel(args.network) if args.kernel is None else args.kernel
    return make_ecotta_step(4 if args.parts is None else args.parts, kernel, options)


def _frame_shape(args: argparse.Namespace) -> tuple[int, ...]:
    from ecotta_rt.prepare.networks import MODELS

    if not 1 <= args.batch <= _LARGEST_BATCH:
        raise UsageError(f"--batch {args.batch}: give a number from 1 to {_LARGEST_BATCH}")
    if args.size is None:
        side = MODELS[args.network].frame_size if args.network in MODELS else _DEFAULT_SIDE
        return (args.batch, _CHANNELS, side, side)
    match = re.fullmatch(r"(?:([0-9]{1,4})x)?([0-9]{1,4})x([0-9]{1,4})", args.size, re.ASCII)
    sides = [int(side or _CHANNELS) for side in match.groups()] if match else [0]
    if min(sides) < 1:
        raise UsageError(
            f"--size {args.size}: write height x width such as 32x32, or channels x height x width, 3x96x96"
        )
    return (args.batch, *sides)


def _limit_bytes(args: argparse.Namespace) -> int | None:
    if args.limit is not None and args.device is not None:
        raise UsageError(f"--limit {args.limit} and --device {args.device} both set the limit; give one of them")
    if args.limit is not None:
        return byte_size(args.limit)
    return None if args.device is None else load_device(args.device).default_limit_bytes


def _require_ecotta_for_its_options(args: argparse.Namespace) -> None:
    given = [name for name in _ECOTTA_OPTIONS if getattr(args, name) is not None]
    if given and args.step != "ecotta":
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{options} goes with --step ecotta, not with --step {args.step}")


def _table(report: "ActivationReport", limit_bytes: int | None) -> str:
    """A report as text: the peaks, bytes by part, and the largest tensors. Sizes in MiB (2^20 bytes)."""
    blocks = [_peaks(report, limit_bytes)]
    if report.tenants:
        blocks += [_parts(report), _kept(report)]
    others = [tenant for tenant in report.step_tenants if not tenant.kept_by]
    if others:
        blocks.append(_others(others))
    return "\n\n".join(blocks)


def _peaks(report: "ActivationReport", limit_bytes: int | None) -> str:
    rows = [("kept for the backward", _mib(report.activation_bytes), f"at {report.peak_at}" if report.peak_at else "")]
    if limit_bytes is not None:
        rows.append(("limit for that", _mib(limit_bytes), f"{_mib(limit_bytes - report.activation_bytes)} MiB left"))
    where = f"at {report.step_peak_at}" if report.step_peak_at else ""
    rows.append(("all tensors of the step", _mib(report.step_peak_bytes), where))
    return in_columns([(name, f"{size} MiB", note) for name, size, note in rows], right={1})


def _parts(report: "ActivationReport") -> str:
    rows = [("part", "MiB", "share")]
    rows += [(part, _mib(size), f"{size / report.activation_bytes:.1%}") for part, size in report.by_part.items()]
    return in_columns(rows, right={1, 2})


def _kept(report: "ActivationReport") -> str:
    shown = report.tenants[:_SHOWN_KEPT]
    rows = [("MiB", "shape", "type", "largest kept tensors, made by", "kept by")]
    rows += [(_mib(t.bytes), _shape(t), t.dtype, t.name, t.kept_by) for t in shown]
    return in_columns(rows, right={0}) + _rest(report.tenants[_SHOWN_KEPT:])


def _others(others: Sequence["KeptStorage"]) -> str:
    rows = [("MiB", "shape", "type", "largest others at the step's peak, kept by no backward, made by")]
    rows += [(_mib(t.bytes), _shape(t), t.dtype, t.name) for t in others[:_SHOWN_OTHERS]]
    return in_columns(rows, right={0}) + _rest(others[_SHOWN_OTHERS:])


def _rest(tenants: Sequence["KeptStorage"]) -> str:
    if not tenants:
        return ""
    return f"\nand {len(tenants)} more, {_mib(sum(tenant.bytes for tenant in tenants))} MiB together"


def _shape(tenant: "KeptStorage") -> str:
    return "x".join(map(str, tenant.shape)) or "scalar"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.1f}"
