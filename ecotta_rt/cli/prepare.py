"""Make a network ready for a device: network + checkpoint, and source data if there are any -> net.ecotta.

Warms meta groups up on the source data, then compiles the whole adaptation step into plain ONNX graphs and writes them
as one bundle, which `ecotta run` runs without torch.

Source data are pictures in class folders, FOLDER/CLASS/... or FOLDER/train/CLASS/... with FOLDER/val beside it: JPEG,
PNG, WebP, TIFF and more, of any size, grey or in colours. How a picture becomes a frame (--size, --resize, --crop) is
written into the bundle, and the device does the same. CIFAR and Fashion-MNIST folders are read as they are published.

Without labels (a folder of pictures, or --unlabelled) the groups learn from the network's own answers. Without --data
they start as an identity: the bundle is there at once, changes nothing but whose statistics the norms use (see
--normalisation; 'source' answers as the network does), and learns on the device alone.

Writes OUT.ecotta-kK.safetensors, the warmed-up meta groups with the statistics of the source data; OUT.ecotta, the
bundle; and, for a model id with a checkpoint, OUT.safetensors: the frozen network that they fit. A run that was
interrupted goes on after the last whole tenth of an epoch, and a warmed-up state that exists is exported as it is.

examples:
  ecotta prepare my_net.py:make --checkpoint my_net.pt --size 96 --classes names.txt
  ecotta prepare my_net.py:make --checkpoint my_net.pt --size 96 --data photos/ --epochs 1
  ecotta prepare my_net.py:make --checkpoint my_net.pt --data pictures/ --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225
  ecotta prepare my_net.py:make --checkpoint my_net.pt --data pictures/ --size 224 --crop 0.875 --classes names.txt
  ecotta prepare wrn-40-2.safetensors --data cifar-10-batches-bin --parts 4
  ecotta prepare resnet-56 --checkpoint resnet56.th --data cifar-10-batches-bin --out my-resnet --epochs 3
  ecotta prepare net.safetensors --data fashion-mnist-c --frames 2000 --precision bfloat16
  ecotta prepare net.safetensors --data fashion-mnist-c --normalisation batch --step-batch 64 --bundle net-64.ecotta
"""

import argparse
import time
from collections.abc import Callable
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
    from ecotta_rt.prepare.warmup import WarmUpOptions

__all__ = ["NAME", "add_arguments", "run"]

NAME = "prepare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Warm up, export, save."""
    names = _looked_at(args)
    from ecotta_rt.cli.prepare_data import choose_frame, open_data, require_a_batch
    from ecotta_rt.cli.progress import WorkProgress
    from ecotta_rt.method.attach import norms_learn_in
    from ecotta_rt.prepare import pipeline
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
    for path in filter(None, (target, bundle)):
        check_target(path)
    check_json(args.json, args.network, args.checkpoint, target, bundle)
    reused = target.exists() and not args.force
    norms_learn = norms_learn_in(AdaptState.load(target)) if reused else wants_norms(args)
    options, wanted = warm_up_options(args), export_options(args, norms_learn)
    pipeline.use_threads(args.threads)
    data = open_data(args)
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
    with WorkProgress("ecotta prepare: looking at the pictures", bar=False):
        frame = choose_frame(args, network, data)
    wanted = replace(wanted, model=pipeline.model_name(args.network), frame=frame, classes=names)
    kernel = pipeline.default_kernel(args.network) if args.kernel is None else args.kernel
    geometry: dict[str, Any] = {"parts": args.parts, "kernel": kernel, "norms_learn": norms_learn}
    compiled, found = None, dict[str, Any]()
    if reused:
        _tell(f"{target} exists and is exported as it is; --force warms up again")
    else:
        with WorkProgress("ecotta prepare", bar=False) as progress:
            report = _graph_report(progress)
            compiled = preflight(network, bundle, wanted, **geometry, identity=data is None, report=report, tell=_tell)
        if data is None:
            _tell_identity(args.normalisation)
            pipeline.prepare_without_data(network, out, frame=frame, **geometry)
        else:
            found = _warm_up(network, data, frame, out, options, origin=str(args.data), **geometry)
    show_path = _nothing if args.json == STDOUT else print
    show_path(target)
    if bundle is not None:
        with WorkProgress("ecotta prepare", bar=False) as progress:
            report = _graph_report(progress)
            pipeline.export_bundle(network, target, bundle, wanted, report=report, compiled=compiled)
        show_path(bundle)
    network_file = out.with_name(f"{out.name}.safetensors") if args.network in MODELS else None
    files = [str(path) for path in (network_file, target, bundle) if path is not None]
    facts = {"schema": 1, "left_out": 0, "held_out": None, "files": files, "minutes": (time.monotonic() - began_s) / 60}
    write_json(args.json, {**facts, **found})
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
    network: Any,
    data: "LabelledSet",
    frame: "FrameSpec",
    out: Path,
    options: "WarmUpOptions",
    *,
    origin: str,
    parts: int,
    kernel: int,
    norms_learn: bool,
) -> dict[str, Any]:
    from ecotta_rt.cli.progress import TrainingProgress
    from ecotta_rt.data import Labelled, remove_store
    from ecotta_rt.prepare.held_out import HeldOut
    from ecotta_rt.prepare.pipeline import prepare

    store = out.with_name(f"{out.name}.frames")
    try:
        frames = _decoded(data, frame, store)
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
                origin=origin,
                report=progress,
                tell=progress.say,
                held_out=held_out,
            )
    except KeyboardInterrupt:  # to be gone on with, as after a kill
        _tell("the same command goes on after the last whole tenth of an epoch")
        raise
    except BaseException:
        remove_store(store)
        raise
    remove_store(store)
    return {"left_out": len(frames.left_out), "held_out": held_out.as_json()}


def _decoded(data: "LabelledSet", frame: "FrameSpec", store: Path) -> "SourceData":
    from ecotta_rt.cli.prepare_data import tell_frames
    from ecotta_rt.cli.progress import WorkProgress

    with WorkProgress("decoding pictures") as progress:
        frames = data.frames(frame, store, progress.update)
    tell_frames(data, frames, frame)
    return frames
