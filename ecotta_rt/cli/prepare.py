"""Make a network ready for a device: network + checkpoint, and source data if there are any -> net.ecotta.

Warms meta groups up on the source data, then compiles the whole adaptation step into plain ONNX graphs and writes them
as one bundle, which `ecotta run` runs without torch.

Source data are pictures in class folders, FOLDER/CLASS/... or FOLDER/train/CLASS/... with FOLDER/val beside it: JPEG,
PNG, WebP, TIFF and more, of any size, grey or in colours. How a picture becomes a frame (--size, --resize, --crop) is
written into the bundle, and the device does the same. CIFAR and Fashion-MNIST folders are read as they are published.

With --fine-tune 1 all of the network is trained a little first, where the labelled pictures are more like the camera's
than what it was trained on; held-out ones decide whether that is kept.

Without labels (a folder of pictures, or --unlabelled) the groups learn from the network's own answers. Without --data
they start as an identity: the bundle is there at once, changes nothing but whose statistics the norms use (see
--normalisation; 'source' answers as the network does), and learns on the device alone.

Writes OUT.ecotta-kK.safetensors, the warmed-up meta groups with the statistics of the source data; OUT.ecotta, the
bundle; and, for a model id with a checkpoint, OUT.safetensors: the frozen network that they fit. With --fine-tune they
fit OUT-fine-tuned.safetensors, which is written, too. A run that was interrupted goes on after the last whole tenth of
an epoch, and a warmed-up state that exists is exported as it is.

examples:
  ecotta prepare my_net.py:make --checkpoint my_net.pt --size 96 --classes names.txt
  ecotta prepare my_net.py:make --checkpoint my_net.pt --size 96 --data photos/ --epochs 1
  ecotta prepare my_net.py:make --checkpoint my_net.pt --data pictures/ --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225
  ecotta prepare my_net.py:make --checkpoint my_net.pt --data pictures/ --size 224 --crop 0.875 --classes names.txt
  ecotta prepare wrn-40-2.safetensors --data cifar-10-batches-bin --parts 4
  ecotta prepare resnet-56 --checkpoint resnet56.th --data cifar-10-batches-bin --out my-resnet --epochs 3
  ecotta prepare my_net.py:make --checkpoint my_net.pt --data photos/ --fine-tune 1 --epochs 1
  ecotta prepare net.safetensors --data fashion-mnist-c --frames 2000 --precision bfloat16
  ecotta prepare net.safetensors --data fashion-mnist-c --normalisation batch --step-batch 64 --bundle net-64.ecotta
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecotta_rt.cli.input_files import require_network
from ecotta_rt.cli.json_option import STDOUT, check_json, write_json
from ecotta_rt.cli.parser import key_mapping
from ecotta_rt.cli.prepare_options import add_options, class_names, export_options, wants_norms, warm_up_options
from ecotta_rt.errors import UsageError
from ecotta_rt.files.atomic import check_target
from ecotta_rt.messages import tell
from ecotta_rt.options import TRACKED
from ecotta_rt.state import AdaptState

if TYPE_CHECKING:
    from ecotta_rt.bundle import FrameSpec
    from ecotta_rt.cli.progress import WorkProgress
    from ecotta_rt.data import LabelledSet, SourceData
    from ecotta_rt.prepare.epochs import WarmUpOptions

__all__ = ["NAME", "add_arguments", "run"]

NAME = "prepare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Warm up, export, save."""
    names = _looked_at(args)
    from ecotta_rt.cli import prepare_fine_tune
    from ecotta_rt.cli.prepare_data import choose_frame, open_data, require_a_batch
    from ecotta_rt.cli.progress import WorkProgress
    from ecotta_rt.method.attach import norms_learn_in
    from ecotta_rt.prepare import pipeline
    from ecotta_rt.prepare.fine_tuning import fine_tuned_path, require_free
    from ecotta_rt.prepare.networks import MODELS
    from ecotta_rt.prepare.preflight import preflight

    began_s = time.monotonic()
    if not Path(args.out or args.network).name:
        raise UsageError(f"{args.out or args.network!r} names no file: give --out a path without a suffix")
    out = args.out or Path(args.network).with_suffix("")
    target = pipeline.warmed_path(out, args.parts)
    bundle = None if args.no_bundle else args.bundle or out.with_name(f"{out.name}.ecotta")
    if bundle is not None and bundle.exists() and not args.force:
        raise UsageError(f"{bundle} exists; --force replaces it, --bundle chooses another name")
    if bundle is None and target.exists() and not args.force:
        raise UsageError(f"{target} exists; --force replaces it, --out chooses another name")
    tuned_file = None if args.fine_tune is None else fine_tuned_path(out)
    for path in filter(None, (tuned_file, target, bundle)):
        check_target(path)
    check_json(args.json, args.network, args.checkpoint, tuned_file, target, bundle)
    state = AdaptState.load(target) if target.exists() and not args.force else None
    norms_learn = wants_norms(args) if state is None else norms_learn_in(state)
    options, wanted = warm_up_options(args), export_options(args, norms_learn)
    tuning = prepare_fine_tune.fine_tune_options(args, options)
    pipeline.use_threads(args.threads)
    data = open_data(args)
    prepare_fine_tune.require_labels(args, data)
    if data is not None:
        require_a_batch(data, options.batch)
    names = names if data is None else data.classes
    if not names:
        _tell('the classes have no names, and answers will be "0", "1" and so on; --classes NAMES gives them names')
    network = pipeline.frozen_network(  # the first that writes
        args.network,
        args.checkpoint,
        out,
        classes=len(names) or None,
        mean=args.mean,
        std=args.std,
        key_mapping=key_mapping(args.key_mapping),
        tell=_tell,
    )
    if state is not None:
        network = prepare_fine_tune.network_of_state(args, network, state, target, out)
    elif tuning is not None and tuned_file is not None:
        require_free(network, tuned_file, tuning, prepare_fine_tune.origin(args), force=args.force)
    with WorkProgress("ecotta prepare: looking at the pictures", bar=False):
        frame = choose_frame(args, network, data)
    wanted = replace(wanted, model=pipeline.model_name(args.network), frame=frame, classes=names)
    kernel = pipeline.default_kernel(args.network) if args.kernel is None else args.kernel
    geometry: dict[str, Any] = {"parts": args.parts, "kernel": kernel, "norms_learn": norms_learn}
    compiled, found = None, dict[str, Any]()
    if state is not None:
        _tell(f"{target} exists and is exported as it is; --force warms up again")
    else:
        with WorkProgress("ecotta prepare", bar=False) as progress:
            how = {**geometry, "identity": data is None, "report": _graph_report(progress), "tell": _tell}
            # What is cut for it is frozen from then on.
            compiled = preflight(network if tuning is None else deepcopy(network), bundle, wanted, **how)
        if data is None:
            _tell_identity(args.normalisation)
            pipeline.prepare_without_data(network, out, frame=frame, **geometry)
        else:
            network, found = _warm_up(args, network, data, frame, out, options, tuning, **geometry)
    show_path = _nothing if args.json == STDOUT else print
    used = (found.get("fine_tuning") or {}).get("used") if state is None else "fine_tuned" in state.metadata
    tuned_file = fine_tuned_path(out) if used else None
    for path in filter(None, (tuned_file, target)):
        show_path(path)
    if bundle is not None:
        with WorkProgress("ecotta prepare", bar=False) as progress:
            report = _graph_report(progress)
            pipeline.export_bundle(network, target, bundle, wanted, report=report, compiled=compiled)
        show_path(bundle)
    network_file = out.with_name(f"{out.name}.safetensors") if args.network in MODELS else None
    files = [str(path) for path in (network_file, tuned_file, target, bundle) if path is not None]
    facts = {"schema": 1, "left_out": 0, "held_out": None, "fine_tuning": None}
    write_json(args.json, {**facts, **found, "files": files, "minutes": (time.monotonic() - began_s) / 60})
    return 0


def _looked_at(args: argparse.Namespace) -> tuple[str, ...]:
    """Class names asked for, once what the command line names is there; without torch."""
    from ecotta_rt.data import find_pictures
    from ecotta_rt.data.image_sets import EMBEDDED, find_image_set

    require_network(args.network, args.checkpoint)
    if args.data not in (None, EMBEDDED) and not Path(args.data).exists():
        if args.unlabelled:
            find_pictures(Path(args.data))
        find_image_set(args.data)
    return class_names(args)


def _tell(line: str) -> None:
    tell("ecotta prepare", line)


def _nothing(path: Path) -> None:
    """Print no path: standard output is for the JSON object alone."""


def _graph_report(progress: "WorkProgress") -> Callable[[str, int, int], None]:
    return lambda graph, done, total: progress.say(f"graph {done + 1} of {total}: {graph}" if done < total else graph)


def _tell_identity(normalisation: str) -> None:
    _tell("no --data: the groups start as an identity, and the network answers as without them")
    if normalisation != "source":
        whose = "follow the stream from the first frame" if normalisation in TRACKED else "are those of each batch"
        _tell(f"the norms' statistics {whose}; --normalisation source keeps the network as it is")


def _warm_up(
    args: argparse.Namespace,
    network: Any,
    data: "LabelledSet",
    frame: "FrameSpec",
    out: Path,
    options: "WarmUpOptions",
    tuning: "WarmUpOptions | None",
    *,
    parts: int,
    kernel: int,
    norms_learn: bool,
) -> tuple[Any, dict[str, Any]]:
    """The network that was warmed up, the fine-tuned one or the one that was given, and facts of it."""
    from ecotta_rt.cli.prepare_fine_tune import fine_tune
    from ecotta_rt.cli.progress import TrainingProgress
    from ecotta_rt.data import Labelled, remove_store
    from ecotta_rt.prepare.fine_tuning import fine_tuned_path, snapshot_beside
    from ecotta_rt.prepare.held_out import HeldOut
    from ecotta_rt.prepare.pipeline import prepare

    store = out.with_name(f"{out.name}.frames")
    tuned = None
    try:
        frames = _decoded(data, frame, store)
        if tuning is not None:
            tuned = fine_tune(args, network, frames, frame, out, tuning)
            network = tuned.network
        # Without labels the network teaches itself: what it counts are answers that changed, not errors.
        wrong = "error" if isinstance(frames.training, Labelled) else "unlike the network's own answer"
        with TrainingProgress(f"warm-up K={parts}", wrong) as progress:
            held_out = HeldOut(frames.held_out, options.batch, progress.say)
            prepare(
                network,
                frames,
                out,
                parts=parts,
                kernel=kernel,
                norms_learn=norms_learn,
                options=options,
                origin=str(args.data),
                report=progress,
                tell=progress.say,
                held_out=held_out,
                record={} if tuned is None else tuned.record(),
                force=args.force,
            )
    except KeyboardInterrupt:  # to be gone on with, as after a kill
        _tell("the same command goes on after the last whole tenth of an epoch")
        raise
    except BaseException:
        remove_store(store)
        raise
    remove_store(store)
    if tuned is not None:  # an interrupted fine-tuning may still be gone on with
        snapshot_beside(fine_tuned_path(out)).unlink(missing_ok=True)
    facts = {"left_out": len(frames.left_out), "held_out": held_out.as_json()}
    return network, {**facts, "fine_tuning": None if tuned is None else dict(tuned.facts)}


def _decoded(data: "LabelledSet", frame: "FrameSpec", store: Path) -> "SourceData":
    from ecotta_rt.cli.prepare_data import tell_frames
    from ecotta_rt.cli.progress import WorkProgress

    with WorkProgress("decoding pictures") as progress:
        frames = data.frames(frame, store, progress.update)
    tell_frames(data, frames, frame)
    return frames
