r"""Teach a small network by a large one while both get used to the places where devices will hang.

Needs labelled pictures of a source domain, and pictures without labels of each target domain. Methods:

  kd-stda      one teacher, one target: the teacher adapts by cross-entropy and alignment while the student is distilled
               from it on source and target; the weight moves from the teacher to the student over the run
  kd-mtda      the same with one teacher over several targets
  mt-mtda      a teacher a target; the student learns from each in turn within every mini-batch
  adapted      no teacher: the network itself learns the source and aligns the targets (a teacher for later, or a peer)
  source-only  no teacher and no target: what one has without all this
  nearest      --teachers were trained for other tasks: learn from the one that knows most of this one (`ecotta student
               rank`), and from few labels; --source are those labelled pictures, --target more without labels
  weighted     the same from several, by their weights

STUDENT and teachers are model ids (resnet-8, resnet-20, ...), network files of ours, or FILE.py:FACTORY with their
weights in --checkpoint and --teacher-checkpoint. A model id without weights begins at random; a teacher that does is
best trained on the source first: --teacher-epochs. All have the classes of the source and take frames of one size, in
[0, 1]: what normalising they need they do themselves.

Writes OUT.safetensors, which `ecotta prepare` takes: a network file of ours; for a FACTORY its weights, to be given as
--checkpoint. The network is that of the last epoch: which epoch was best in a target nobody can tell without labels
there. A run that was interrupted goes on after its last whole epoch.

examples:
  ecotta student distil resnet-8 --teacher teacher.safetensors --source pictures/ --target door=door/ --out small
  ecotta student distil resnet-8 --teacher resnet-56 --teacher-epochs 10 --source all/ --target door=door/ --size 48
  ecotta student distil resnet-8 --method mt-mtda --teacher resnet-20 --source mnist.npz --target usps=usps.npz \
      --target photo=mnistm.npz --test usps=usps.npz --size 28 --plot losses.png --json run.json
  ecotta student distil my_net.py:small --teacher my_net.py:large --teacher-checkpoint large.pt --source pictures/ \
      --target yard=yard/ --size 96 --out small
  ecotta student distil resnet-8 --method weighted --teachers networks/ others.toml --source few/ --target all=all/
  ecotta student distil resnet-20 --method adapted --source pictures/ --target door=door/ --out teacher
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecotta_rt.cli.input_files import require_network
from ecotta_rt.cli.json_option import STDOUT, check_json, write_json
from ecotta_rt.cli.parser import integer
from ecotta_rt.cli.ranked_teachers import RANKED, add_ranked, check_ranked, ranked_options
from ecotta_rt.cli.student_options import add_data, add_recipe, pictures_of, targets_by_name, training_options
from ecotta_rt.errors import UsageError
from ecotta_rt.files.atomic import check_target
from ecotta_rt.files.figure import check_figure
from ecotta_rt.messages import in_columns, show
from ecotta_rt.student.out_files import beside

if TYPE_CHECKING:
    from ecotta_rt.student import DistilOptions

__all__ = ["NAME", "add_arguments", "run"]

NAME = "distil"

_TITLE = "ecotta student distil"
_CONSTANTS = ("beta", "alignment", "gamma", "temperature", "alpha", "kl", "consistency", "teacher_lr")
_METHODS = ("kd-stda", "kd-mtda", "mt-mtda", "adapted", "source-only", *RANKED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("student", metavar="STUDENT", help="model id, network file of ours, or FILE.py:FACTORY")
    add("--checkpoint", type=Path, metavar="FILE", help="weights that the student begins with")
    add("--method", choices=_METHODS, help="see above (default: kd-stda for one target, mt-mtda for several)")
    add(
        "--teacher",
        action="append",
        default=[],
        metavar="NETWORK",
        help="as STUDENT; with mt-mtda one for each target in their order, or one that each begins as",
    )
    add("--teacher-checkpoint", action="append", default=[], type=Path, metavar="FILE", help="of each --teacher")
    add("--teacher-epochs", type=integer, default=0, metavar="N", help="train teachers on the source first (default 0)")
    add("--frozen-teacher", action="store_true", help="teachers are adapted already, and stay as they are")
    add("--keep-teachers", action="store_true", help="write adapted teachers, too: OUT.teacher-K.safetensors")
    add("--out", type=Path, default=Path("student"), metavar="OUT", help="where to, without suffix (default student)")
    add_data(parser)
    add(
        "--test",
        metavar="NAME=DATA",
        action="append",
        default=[],
        help="labelled pictures (test parts of .npz and published sets) whose error is told at the end",
    )
    add_recipe(parser)
    _add_constants(parser.add_argument_group("constants of the method"))
    add_ranked(parser)
    add(
        "--norms",
        choices=("trained", "all", "targets"),
        default="trained",
        help="statistics of the student's norms in the end: as it was trained, or measured again on pictures of all "
        "domains alike, or of the targets alone (default trained)",
    )
    add("--plot", type=Path, metavar="FILE", help="draw losses and agreement by epoch into a .png or .svg")
    add("--force", action="store_true", help="replace OUT.safetensors where it exists")


def _add_constants(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add(
        "--beta",
        type=float,
        nargs=2,
        metavar=("START", "END"),
        help="the student's weight over the run, growing exponentially; the teacher has the rest (default 0.1 0.9)",
    )
    add("--alignment", choices=("dann", "mmd", "symnet", "none"), help="of domains (default dann)")
    add("--gamma", type=float, help="weight of the alignment (default 0.5)")
    add("--temperature", type=float, metavar="T", help="of softened answers (default 1; the papers have 20)")
    add("--alpha", type=float, help="share of distillation in the loss on the source (default 0.3)")
    add("--kl", choices=("forward", "reverse"), help="of teacher to student, or back (forward)")
    add("--consistency", action="store_true", help="align the student's own domains, too")
    add("--teacher-lr", type=float, metavar="SHARE", help="share of --lr that teachers have (default 1)")


def run(args: argparse.Namespace) -> int:
    """Look at everything, train, write, tell."""
    if not args.out.name or args.out.name == "..":
        raise UsageError(f"--out {str(args.out)!r} names no file: give a path without a suffix")
    out = beside(args.out, "safetensors")
    method = args.method or ("kd-stda" if len(args.target) == 1 else "mt-mtda" if args.target else None)
    _check(args, method, out)
    assert method is not None
    tests = targets_by_name(args, "test")
    from ecotta_rt.cli.student_watch import ShownWatch
    from ecotta_rt.prepare.pipeline import use_threads
    from ecotta_rt.student import distil
    from ecotta_rt.student.plot import draw_curves

    began_s = time.monotonic()
    if args.plot is not None:
        check_figure(args.plot)
    use_threads(args.threads)
    made = distil(
        args.student,
        args.source,
        targets_by_name(args),
        teachers=args.teachers if method in RANKED else args.teacher,
        options=ranked_options(args, method) if method in RANKED else _options(args, method),
        training=training_options(args),
        pictures=pictures_of(args),
        checkpoint=args.checkpoint,
        teacher_checkpoints=args.teacher_checkpoint,
        teacher_epochs=args.teacher_epochs,
        keep_teachers=args.keep_teachers,
        norms=args.norms,
        tests=tests,
        out=args.out,
        watch=ShownWatch(_TITLE),
    )
    if args.plot is not None:
        draw_curves(made.history, args.plot, f"{args.student}, {method}")
    if args.json != STDOUT:
        _print(out, made.history, made.error_percent)
    facts: dict[str, Any] = {"schema": 1, "student": args.student, **made.recipe}
    facts |= {"error_percent": dict(made.error_percent), "history": [dict(epoch) for epoch in made.history]}
    facts |= {"files": [str(path) for path in made.files], "minutes": (time.monotonic() - began_s) / 60}
    write_json(args.json, facts)
    return 0


def _given_constants(args: argparse.Namespace) -> dict[str, Any]:
    """Those of progressive distillation that the command line names; the others are `DistilOptions`' own."""
    given = {name: vars(args)[name] for name in _CONSTANTS}
    return {name: value for name, value in given.items() if value is not None and value is not False}


def _options(args: argparse.Namespace, method: str) -> "DistilOptions":
    from ecotta_rt.student import DistilOptions
    from ecotta_rt.student.methods import Progression

    given = _given_constants(args)
    if args.beta is not None:
        given["beta"] = Progression(*args.beta)
    return DistilOptions(method=method, teacher_learns=not args.frozen_teacher, **given)


def _check(args: argparse.Namespace, method: str | None, out: Path) -> None:
    """What can be refused before torch is imported."""
    if method is None:
        raise UsageError("no --target: name one (--target NAME=DATA), or choose --method source-only")
    targets = targets_by_name(args)
    check_ranked(args, method)
    if method in RANKED and (unused := [f"--{name.replace('_', '-')}" for name in _given_constants(args)]):
        raise UsageError(f"{', '.join(unused)}: no constant of {method}; leave it out")
    needed = 0 if method in ("adapted", "source-only", *RANKED) else len(targets) if method == "mt-mtda" else 1
    if needed == 0 and args.teacher:
        raise UsageError(f"--teacher: {method} has no teacher; leave it out, or choose another --method")
    if method == "source-only" and targets and args.norms == "trained":
        raise UsageError(
            "--target: source-only learns from the source alone; leave it out, measure the norms on it (--norms "
            "targets), or choose another --method"
        )
    if args.norms == "targets" and not targets:
        raise UsageError("--norms targets: there is no --target to measure them on")
    if needed and len(args.teacher) not in (1, needed):
        several = f", or one for each of {needed} targets" if needed > 1 else ""
        raise UsageError(f"{len(args.teacher)} --teacher are given; {method} takes one{several}")
    if len(args.teacher_checkpoint) not in (0, len(args.teacher)):
        raise UsageError("--teacher-checkpoint: give one for each --teacher, in their order, or none")
    if args.teacher_epochs < 0:
        raise UsageError(f"--teacher-epochs {args.teacher_epochs}: it must not be negative")
    require_network(args.student, args.checkpoint)
    for teacher, checkpoint in zip(args.teacher, args.teacher_checkpoint or [None] * len(args.teacher), strict=True):
        require_network(teacher, checkpoint)
    kept = needed if args.keep_teachers else 0
    teachers = [beside(args.out, f"teacher-{place + 1}", "safetensors") for place in range(kept)]
    for path in (out, *teachers):
        if path.exists() and not args.force:
            raise UsageError(f"{path} exists; --force replaces it, --out chooses another name")
        check_target(path)
    given = {os.path.realpath(teacher): teacher for teacher in args.teacher}
    overwritten = next((given[os.path.realpath(path)] for path in teachers if os.path.realpath(path) in given), None)
    if overwritten is not None:
        raise UsageError(f"--keep-teachers would replace --teacher {overwritten}; choose another --out")
    check_json(args.json, args.student, args.checkpoint, out, *args.teacher, *args.teacher_checkpoint)


def _print(out: Path, history: Sequence[Mapping[str, float]], errors: Mapping[str, float]) -> None:
    names = list(history[-1])
    rows = [("epoch", *names)]
    rows += [(str(place), *(f"{epoch[name]:.3f}" for name in names)) for place, epoch in enumerate(history, start=1)]
    show(in_columns(rows, right=range(len(names) + 1)))
    for name, error in errors.items():
        show(f"error in {name}: {error:.1f} %")
    show(str(out))
