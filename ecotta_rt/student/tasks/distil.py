"""`ecotta student distil`, for Python."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from torch import nn

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.open_network import frame_channels
from ecotta_rt.student.batches import frame_batches
from ecotta_rt.student.domains import Domain, Domains
from ecotta_rt.student.evaluate import error_percent
from ecotta_rt.student.files import Member, save_student
from ecotta_rt.student.frame_limit import student_frame
from ecotta_rt.student.methods import DistilOptions
from ecotta_rt.student.named_data import LabelledData, UnlabelledData, find_labelled
from ecotta_rt.student.out_files import beside
from ecotta_rt.student.slimmable.recalibrate import recalibrate
from ecotta_rt.student.tasks.pictures import Pictures, decoded, decoded_labelled, of_test, stores
from ecotta_rt.student.teachers import OwnTeachers, RankedOptions, RankedTeachers, Teachers
from ecotta_rt.student.training import History, TrainingOptions
from ecotta_rt.student.watch import Watch

__all__ = ["Norms", "Student", "distil"]

Norms = Literal["trained", "all", "targets"]

_NONE: Mapping[str, Any] = MappingProxyType({})

_LEAST_PICTURES = 16
"""Of a domain, for statistics of norms: of fewer the channels of a last layer, of few places each, are noise."""


@dataclass(frozen=True, eq=False)
class Student:
    """A network that was taught.

    Attributes:
        network: In evaluation mode.
        member: What it was made of.
        frame: What it takes.
        recipe: How it was taught; JSON values.
        history: An entry an epoch.
        error_percent: By the name of a test set.
        files: That were written.
    """

    network: nn.Module
    member: Member
    frame: FrameSpec
    recipe: Mapping[str, Any]
    history: History
    error_percent: Mapping[str, float] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write what `ecotta prepare` takes: a network file of ours, or weights for the network's own code.

        Args:
            path: Ends in `.safetensors`.

        Raises:
            UsageError: It holds NaN.
            TransferError: It cannot be written.
        """
        save_student(self.network, Path(path), self.member, self.recipe, frame=self.frame)


def distil(
    student: str | nn.Module,
    source: LabelledData,
    targets: Mapping[str, UnlabelledData] = _NONE,
    *,
    teachers: Sequence[str | Path | nn.Module] = (),
    options: DistilOptions | RankedOptions | None = None,
    training: TrainingOptions | None = None,
    pictures: Pictures | None = None,
    checkpoint: str | Path | None = None,
    teacher_checkpoints: Sequence[str | Path] = (),
    teacher_epochs: int = 0,
    keep_teachers: bool = False,
    norms: Norms = "trained",
    tests: Mapping[str, LabelledData] = _NONE,
    out: str | Path | None = None,
    watch: Watch | None = None,
) -> Student:
    """Teach a small network by large ones, over the places where it will be used: `ecotta student distil`.

    Args:
        student: Model id, network file of ours, FILE.py:FACTORY (that code is **run**), or a network, which is trained
            in place.
        source: Labelled pictures: a path, or frames uint8 `[N, H, W, C]` and labels int64 `[N]`.
        targets: Pictures without labels by the name of the place: paths, or frames.
        teachers: As `student`; with `RankedOptions` folders and files as for `rank`. A network learns in place where
            the method has its teachers learn. One for several targets learns the first; copies learn the others.
        options: Method and constants; None: MT-MTDA for several targets, KD-STDA for one.
        training: The recipe.
        pictures: How they are looked at.
        checkpoint: Weights that the student begins with; a model id begins at random without them.
        teacher_checkpoints: Of each teacher, or none.
        teacher_epochs: Train teachers on the source first.
        keep_teachers: With `out`: write adapted teachers, too.
        norms: Statistics of the student's norms in the end: as it was trained, or measured again on pictures of all
            domains alike, or of the targets alone; each domain counts as much as another and needs 16 pictures.
        tests: Labelled pictures by name, whose error is told; nothing is chosen by them.
        out: Where to write the network, without suffix; a run that was interrupted then goes on after its last whole
            epoch. None: nothing is written.
        watch: Hears how far it is.

    Raises:
        UsageError: Options, networks and pictures that do not go together.
        NetworkError: A network that cannot be taught, or does not take the frames.
        InputFileError, CheckpointError: Files that cannot be used.
        TransferError: A file cannot be written.
    """
    watch, pictures, training = watch or Watch(), pictures or Pictures(), training or TrainingOptions()
    options = options or DistilOptions("mt-mtda" if len(targets) > 1 else "kd-stda")
    found = pictures.find(source, targets, training.seed)
    member = Member.of(student, checkpoint)
    _check_norms(norms, found.source.count, {name: target.count for name, target in found.targets.items()})
    networks: Teachers
    _require_different(student, teachers)
    if isinstance(options, RankedOptions):
        if teacher_checkpoints or teacher_epochs or keep_teachers:
            raise UsageError(
                f"{options.method} leaves teachers as they are: none of their epochs, checkpoints or files"
            )
        if any(isinstance(place, nn.Module) for place in teachers):
            raise UsageError(
                f"{options.method} takes teachers from folders and files, as rank does, not a network in memory; save "
                "it, and give its file"
            )
        places = [str(place) for place in teachers]
        networks = RankedTeachers(member, places, options, found, training, watch=watch)
    else:
        checkpoints: Sequence[str | Path | None] = list(teacher_checkpoints) or [None] * len(teachers)
        if len(checkpoints) != len(teachers):
            raise UsageError(f"{len(checkpoints)} checkpoints for {len(teachers)} teachers: one for each, or none")
        members = [Member.of(*each) for each in zip(teachers, checkpoints, strict=True)]
        networks = OwnTeachers(member, members, options, found, training, epochs=teacher_epochs, watch=watch)
    size = pictures.size or networks.made_for or found.common_size()
    frame = student_frame(size, frame_channels(networks.student), pictures.resize)
    networks.check(frame)
    _check_has_norms(norms, networks.student)
    held = {name: find_labelled(data, found.classes, split="test", what=f"test {name}") for name, data in tests.items()}
    base, files = None if out is None else Path(out), list[Path]()
    with stores(base, found, held, watch) as (store, snapshot):
        domains = decoded(found, frame, store, watch)
        # A test set of which nothing can be used shall end the run before the training.
        judged = {name: decoded_labelled(each, frame, of_test(store, name), watch) for name, each in held.items()}
        measured_on = _measured_on(norms, domains)
        networks.ready(domains, training, base)
        history = networks.distil(domains, training, snapshot)
        if measured_on:
            recalibrate(networks.student, frame_batches(measured_on))
        recipe = {
            "method": networks.method,
            "frame": list(frame.size),
            "epochs": training.epochs,
            "seed": training.seed,
            "norms": norms,
            "targets": [target.name for target in domains.targets],
            "classes": list(domains.classes),
            **networks.recipe(),
        }
        made = Student(networks.student.eval(), member, frame, recipe, history)
        if base is not None:
            files = [beside(base, "safetensors")]
            made.save(files[0])
            files += networks.keep(base, recipe, frame) if keep_teachers else ()
        errors = {name: error_percent(made.network, *each) for name, each in judged.items()}
    if base is not None:
        networks.tidy(base)
    return replace(made, error_percent=errors, files=tuple(files))


def _check_has_norms(norms: Norms, network: nn.Module) -> None:
    """Refuse, with a UsageError, to measure statistics that a network does not have."""
    if norms != "trained" and not any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()
    ):
        raise UsageError(
            f"norms {norms}: the student has no batch norm whose statistics could be measured; leave the norms as they "
            "are trained"
        )


def _require_different(student: str | nn.Module, teachers: Sequence[str | Path | nn.Module]) -> None:
    """Refuse, with a UsageError, one network in memory in two places: it would be taught by itself."""
    networks = [each for each in teachers if isinstance(each, nn.Module)]
    if any(each is student for each in networks):
        raise UsageError("the student is among its teachers, as the same object; give a copy.deepcopy of it")
    if len({id(each) for each in networks}) < len(networks):
        raise UsageError(
            "two teachers are the same object; give it once, and each target has a copy of it, or give a copy.deepcopy"
        )


def _measured_on(norms: Norms, domains: Domains) -> tuple[Domain, ...]:
    """Whose pictures the norms are measured on again; none where they stay."""
    # Once more: pictures that cannot be used were left out since.
    _check_norms(norms, len(domains.source.frames), {each.name: len(each.frames) for each in domains.targets})
    source = () if norms == "targets" else (domains.source,)
    return () if norms == "trained" else (*source, *domains.targets)


def _check_norms(norms: Norms, source: int, targets: Mapping[str, int]) -> None:
    """Refuse, with a UsageError, a choice that is none, or domains of so few pictures that statistics are noise."""
    if norms not in get_args(Norms):
        raise UsageError(f"norms {norms!r}: choose {', '.join(get_args(Norms))}")
    if norms == "trained":
        return
    if norms == "targets" and not targets:
        raise UsageError("norms targets: there is no target to measure them on")
    counts = {**({} if norms == "targets" else {"the source": source}), **targets}
    for name, count in counts.items():
        if count < _LEAST_PICTURES:
            raise UsageError(
                f"norms {norms}: {count} pictures of {name}; statistics need {_LEAST_PICTURES} of each domain or "
                "more. Give more pictures, or leave the norms as they are trained"
            )
