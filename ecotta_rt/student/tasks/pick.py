"""`ecotta student pick`, for Python."""

import math
from pathlib import Path

from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.machine.device import load_device
from ecotta_rt.plan.budget import Wish
from ecotta_rt.prepare.pipeline import default_kernel
from ecotta_rt.student.pick_request import check_pick
from ecotta_rt.student.slimda import picking
from ecotta_rt.student.slimda.bank import Bank, load_bank
from ecotta_rt.student.slimda.device_cost import Bundles, Measured
from ecotta_rt.student.slimda.kept_costs import costs_path, keep_costs, kept_costs
from ecotta_rt.student.slimda.picking import Picked
from ecotta_rt.student.watch import Watch

__all__ = ["pick"]


def pick(
    bank: Bank | str | Path,
    device: str,
    out: str | Path,
    *,
    network: str | None = None,
    limit_bytes: int | None = None,
    ms: float = math.inf,
    step_batch: int = 1,
    parts: int = 4,
    tries: int = 8,
    seed: int = 0,
    costs: Path | None = None,
    watch: Watch | None = None,
) -> Picked:
    """Take the widest network out of a bank that fits a device, and make its bundle: `ecotta student pick`.

    Args:
        bank: From `slim`, or its file.
        device: Id or file of a device profile.
        out: Where to write, `.safetensors`; the bundle stands beside as `.ecotta`.
        network: FILE.py:FACTORY (that code is **run**) of a file of a bank that is of no model of ours.
        limit_bytes: What the process may have; None: the device's limit.
        ms: What the adapting step may take a frame on this machine.
        step_batch: Frames a step.
        parts: K.
        tries: Random narrowings for each budget.
        seed: Of the search.
        costs: Where measured costs are kept for the next board; None: beside the file of a bank, else nowhere. Not read
            where `ms` is a limit: times are then measured now.
        watch: Hears how far it is.

    Returns:
        What was found; where nothing fits, `chosen` is None and `refusal` says why, with the nearest.

    Raises:
        UsageError: An unknown device, a bank of a network that is not given, options that cannot be, or an `out` that
            is the bank.
        InputFileError: No bank, or one that cannot be used.
        NetworkError: It cannot be cut into so many parts, or exported.
        TransferError: A file cannot be written.
    """
    watch = watch or Watch()
    stem = check_pick(None if isinstance(bank, Bank) else Path(bank), Path(out), ms=ms, tries=tries, parts=parts)
    if not isinstance(bank, Bank):
        costs = costs or costs_path(Path(bank))
        bank = load_bank(Path(bank), network, watch.tell)
    export = ExportOptions(bank.network, classes=bank.classes, frame=bank.frame, batches=(step_batch,))
    wish = Wish(batch=step_batch, adapt=True, limit_bytes=limit_bytes)
    bundles = Bundles(bank, load_device(device), wish, export, parts, default_kernel(bank.network))
    with watch.work("picking a width") as report:
        # A time that was taken while the machine was busy shall refuse nothing.
        known = [] if costs is None or ms < math.inf else _known(costs, bundles, watch)
        picked = picking.pick(bundles, stem, ms=ms, tries=tries, seed=seed, report=report, known=known)
    if costs is not None and picked.measured_now:
        try:
            keep_costs(costs, bundles, picked.measured)
        except TransferError as error:
            watch.tell(f"{error}; the next pick measures again")
    return picked


def _known(costs: Path, bundles: Bundles, watch: Watch) -> list[Measured]:
    """What was measured before; of a file that cannot be used, what is wrong is told, and all is measured anew."""
    try:
        return kept_costs(costs, bundles)
    except (InputFileError, UsageError) as error:
        watch.tell(f"{error}; measured anew")
        return []
