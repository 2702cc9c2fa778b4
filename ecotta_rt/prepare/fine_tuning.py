"""Train the whole network a little before it is frozen: `ecotta prepare --fine-tune`.

    network  ->  fine_tune  ->  rounded as in its file  ->  held-out error  ->  OUT-fine-tuned.safetensors

Where the held-out error is not the better for it, the network stays as it was and no file is written. What is trained
is the network's own, not a group's: on pictures like the camera's, changed as in the warm-up.
"""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.data import Labelled, SourceData
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.prepare.epochs import Diverged, WarmUpCallback, WarmUpOptions
from ecotta_rt.prepare.held_out import GUESSES, is_guessing
from ecotta_rt.prepare.looks import Looks, Seen
from ecotta_rt.prepare.matching import fill
from ecotta_rt.prepare.open_network import open_network
from ecotta_rt.prepare.snapshot import RunIdentity, array_digest, forget_other, require_known, weights_digest
from ecotta_rt.prepare.storing import inner, save_like
from ecotta_rt.prepare.warmup import fine_tune, run_identity
from ecotta_rt.prepare.weights import read_safetensors, stored_tensors

__all__ = [
    "FineTuned",
    "Origin",
    "fine_tuned",
    "fine_tuned_path",
    "load_fine_tuned",
    "require_free",
    "snapshot_beside",
]


@dataclass(frozen=True)
class Origin:
    """Where a network came from, for the file of the fine-tuned one.

    Attributes:
        name: As given to `open_network`.
        checkpoint: As given to it.
        data: What the pictures are, for the record.
    """

    name: str
    checkpoint: Path | None = None
    data: str = ""


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What came of it.

    Attributes:
        network: To go on with, in evaluation mode: the fine-tuned one, or the one that was given.
        file: Of the fine-tuned network; None where the one that was given is used.
        facts: In JSON values: `epochs`, `lr`, `pictures`, `used`, `file`, and under `held_out` what was played and
            `wrong_percent`, `before` and `after`; None where nothing was held out.
    """

    network: nn.Module
    file: Path | None
    facts: Mapping[str, Any]

    def record(self) -> dict[str, str]:
        """The same for a state's metadata."""
        passes = f"{self.facts['epochs']} x {self.facts['pictures']:,} pictures, step size {self.facts['lr']:g}"
        held_out = self.facts["held_out"]
        told = "; nothing was held out to compare on"
        if held_out is not None:
            before, after = (held_out["wrong_percent"][when] for when in ("before", "after"))
            changes = (f"{name} {before[name]:.1f} -> {after[name]:.1f} %" for name in before)
            told = f"; held-out pictures wrong: {', '.join(changes)}"
        return {"fine_tuned" if self.file is not None else "fine_tuning_left_out": passes + told}


def fine_tuned_path(out: Path) -> Path:
    """Where the fine-tuned network stands; not OUT.fine-tuned.safetensors, which is a control of the benchmark's."""
    return out.with_name(f"{out.name}-fine-tuned.safetensors")


def fine_tuned(
    network: nn.Module,
    data: SourceData,
    path: Path,
    options: WarmUpOptions,
    *,
    origin: Origin,
    frame: FrameSpec,
    looks: Looks | None = None,
    force: bool = False,
    report: WarmUpCallback | None = None,
    tell: Callable[[str], None] | None = None,
) -> FineTuned:
    """Fine-tune a network, unless held-out pictures say that it is the worse for it.

    Args:
        network: From `open_network`, before anything is attached to it; it stays as it is.
        data: Its training part needs labels.
        path: From `fine_tuned_path`. One that an earlier run of the same made is used as it is.
        options: The recipe; of those about groups and their statistics none counts.
        origin: Of the network.
        frame: What it takes.
        looks: Held-out pictures to compare on; None: it is used without comparing.
        force: Replace a file that exists, and a snapshot of another run.
        report: Called after each step.
        tell: Called with a line for each finding.

    Raises:
        UsageError: Data without labels, a file of another run, or a loss that is no longer finite.
        InputFileError: A snapshot of another run.
        TransferError: Snapshot or file cannot be written.
    """
    if not isinstance(data.training, Labelled):
        raise UsageError("fine-tuning needs labels: without them the network would learn its own mistakes")
    say = tell or _nobody
    frames, labels = data.training.frames, data.training.labels
    of_training = run_identity(options, frames, labels, weights_digest(network))
    run = {**of_training, "held out": _digest(data.held_out)}
    facts: dict[str, Any] = {"epochs": options.epochs, "lr": options.lr, "pictures": len(labels)}
    if path.exists() and not force:
        recipe = _require_same(path, run)
        tuned = load_fine_tuned(deepcopy(network), path)
        say(f"{path} exists and is used as it is; --force trains again")
        return FineTuned(tuned, path, {**facts, "used": True, "file": str(path), "held_out": recipe.get("held_out")})
    if force:
        forget_other(snapshot_beside(path), of_training)
    if looks is None:
        say("no pictures are held out, so nobody looks whether it helps; --held-out 0.1 keeps every tenth for that")
    before = None if looks is None else _told(looks.see(network.eval()), "before it", say)
    if before is not None and is_guessing(before.errors_percent["clean"], data.held_out):
        say(GUESSES)
    tuned = _trained(network, data.training, path, options, report)
    after = None if looks is None else _told(looks.see(tuned), "after it", say)
    facts["used"] = used = before is None or after is None or after.error_percent <= before.error_percent
    facts["file"] = str(path) if used else None
    facts["held_out"] = None
    if looks is not None and before is not None and after is not None:
        wrong = {"before": before.errors_percent, "after": after.errors_percent}
        facts["held_out"] = {**looks.as_json(), "wrong_percent": wrong}
        _tell_verdict(used, before, after, options.lr, say)
    if not used and path.exists():
        say(f"warning: {path} is of an earlier run, and nothing here was made of it")
    if not used:
        return FineTuned(network, None, facts)
    about = {"fine_tuned_from": Path(origin.checkpoint or origin.name).name, "on": origin.data, "run": dict(run)}
    recipe = {**about, "options": asdict(options), "held_out": facts["held_out"], "frame": list(frame.size)}
    save_like(tuned, path, name=origin.name, checkpoint=origin.checkpoint, recipe=recipe, frame=frame)
    return FineTuned(tuned, path, facts)


def _trained(
    network: nn.Module, data: Labelled, path: Path, options: WarmUpOptions, report: WarmUpCallback | None
) -> nn.Module:
    """A copy of `network`, trained and rounded to what its file will hold."""
    tuned, snapshot = deepcopy(network), snapshot_beside(path)
    for parameter in tuned.parameters():  # as in the warm-up: the faster layout on CPUs
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    try:
        fine_tune(tuned, data.frames, data.labels, options, report=report, snapshot=snapshot)
        fill(inner(tuned), stored_tensors(inner(tuned)), path)
    except UsageError as error:
        finite = all(bool(torch.isfinite(value).all()) for value in tuned.state_dict().values())
        if finite and not isinstance(error, Diverged):
            raise
        snapshot.unlink(missing_ok=True)  # it leads there again
        what = str(error).partition(": ")[0]
        raise UsageError(f"fine-tuning: {what}: give a smaller --fine-tune-lr than {options.lr:g}") from error
    return tuned


def load_fine_tuned(network: nn.Module, path: Path) -> nn.Module:
    """Fill `network` in place with what `fine_tuned` stored; returns it in evaluation mode.

    Raises:
        InputFileError: No such file, or one of another network.
    """
    fill(inner(network), read_safetensors(path)[0], path)
    return network.eval()


def snapshot_beside(path: Path) -> Path:
    """What `fine_tuned` leaves until the caller has no more use for it: an interrupted run goes on from it."""
    return path.with_suffix(".snapshot")


def require_free(network: nn.Module, path: Path, options: WarmUpOptions, origin: Origin, *, force: bool) -> None:
    """Refuse before the pictures are decoded what would be refused after.

    Raises:
        UsageError: `path` holds something else than an earlier run of the same, or is the network itself; or the
            network's weights do not lie in its state dict as they do in its factory's, or no file can hold them.
        InputFileError: The snapshot beside it is damaged, or of a run of another recipe or network.
    """
    if any(given is not None and path.resolve() == Path(given).resolve() for given in (origin.name, origin.checkpoint)):
        raise UsageError(f"{path} is where the fine-tuned network goes, and the network itself: --out another name")
    if ":" in origin.name:
        plain = open_network(origin.name, settle=False)
        if set(plain.state_dict()) != set(inner(network).state_dict()):
            raise UsageError(
                f"--fine-tune: weights of {origin.name} are computed at each call (weight norm, say), and the "
                "fine-tuned file would not fit it; make them plain in the factory (remove_parametrizations)"
            )
    _require_storable(network, path)
    if path.exists():
        _recipe_of(path)
    if force:
        return
    known = {name: str(value) for name, value in asdict(options).items()}
    known["network"] = weights_digest(network)[:12]  # the pictures come later
    if path.exists():
        _require_same(path, known)
    else:
        require_known(snapshot_beside(path), known)


def _require_storable(network: nn.Module, path: Path) -> None:
    """Store and fill once what is stored and filled after the training."""
    plain = deepcopy(inner(network))
    try:
        fill(plain, stored_tensors(plain), path)
    except (UsageError, InputFileError) as error:
        raise UsageError(
            f"--fine-tune: the network cannot be stored as it is, so nothing is trained: {error}. A constant, such as "
            "a mask, may be a buffer with persistent=False"
        ) from error


def _digest(data: Labelled | None) -> str:
    return "none" if data is None else f"{array_digest(data.frames)} {array_digest(data.labels)}"


def _require_same(path: Path, run: RunIdentity) -> dict[str, Any]:
    """The recipe of a file that an earlier run of `run` made."""
    recipe = _recipe_of(path)
    made = recipe["run"]
    unlike = [name for name, value in run.items() if made.get(name) != value]
    if unlike:
        name = unlike[0]
        what = f"{name} was {made.get(name, 'not said')} and is {run[name]}"
        raise UsageError(f"{path} exists and was made otherwise ({what}); --force trains again, --out renames")
    return recipe


def _recipe_of(path: Path) -> dict[str, Any]:
    """How `fine_tuned` made a file; no other is replaced, by --force neither."""
    try:
        recipe = dict(json.loads(read_safetensors(path)[1]["recipe"]))
        dict(recipe["run"])
    except (KeyError, TypeError, ValueError, RecursionError, InputFileError):
        raise UsageError(f"{path} exists and is no network that --fine-tune made; --out chooses another name") from None
    return recipe


def _told(seen: Seen, when: str, say: Callable[[str], None]) -> Seen:
    say(f"{when} {seen} of {len(seen.clean):,} held-out pictures wrong")
    return seen


def _tell_verdict(used: bool, before: Seen, after: Seen, lr: float, say: Callable[[str], None]) -> None:
    if not used:
        say(
            f"warning: fine-tuning made it worse ({before.error_percent:.1f} % wrong in the mean, now "
            f"{after.error_percent:.1f}), and the network is used as it was; a smaller step than --fine-tune-lr "
            f"{lr:g} or more pictures may help"
        )
    elif after.clean_is_worse_than(before):
        say("warning: clean pictures are answered worse than before; that is the price of the corrupted ones")


def _nobody(line: str) -> None:
    """Hears nothing."""
