"""The options of `ecotta-bench`: its parser, and what it makes of them for each of the two measurements."""

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from ecotta_rt._version import __version__
from ecotta_rt.bench.adaptation import ADAPTATION
from ecotta_rt.bench.allocator import ALLOCATORS
from ecotta_rt.bench.contestants import LATENCY_METHODS
from ecotta_rt.bench.peers import DEFAULT_METHODS, METHODS
from ecotta_rt.bench.plan import DEFAULT_FRAMES
from ecotta_rt.bench.request import ENGINES, GRADIENTS, LATENCY, MEMORY_FORMATS, ORDERS, STREAMS, Request
from ecotta_rt.bench.streams import PROTOCOLS, Protocol
from ecotta_rt.cli.parser import CommandParser, batch_size, integer, thread_count
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.errors import UsageError
from ecotta_rt.files.sizes import byte_size
from ecotta_rt.machine.this_machine import usable_cores
from ecotta_rt.options import MEMORY_KINDS, NORMALISATIONS, OPTIMISATIONS

__all__ = ["STDOUT", "bench_parser", "bench_request"]

STDOUT = Path("-")
"""What a bare `--json` stands for."""

_DESCRIPTION = """\
Measure test-time adaptation methods side by side, on one stream of corrupted images.

--memory plays the stream once to each method, each in a fresh process, and reports three levels of memory beside the
error of that very run: activations kept for the backward, the peak of live tensors, and the peak of the process. With
--engine onnx the methods run from a bundle in a process without torch, as on a device. With --enforce each process is,
until the stream is over, in a memory control group of its own with a device's default limit and no swap: what exceeds
it is killed by the kernel, as on the device. That takes root, or systemd-run --user --scope.

--stream plays streams as papers define them (see below), each to each method, engine and batch size, in a fresh
process each, and reports errors over all frames, by corruption, visit and part, after changes and over time, with the
memory and time of the very run. --json FILE keeps every row as soon as it is there; run again it goes on where it was.

--latency lets inference alone, EcoTTA's step in onnxruntime, and EcoTTA, TENT and CoTTA in torch take turns, and
reports the time of a step as ratios.

A bundle or inference-only graph that is missing is made once, in a process with torch, and kept in $ECOTTA_CACHE
(~/.cache/ecotta_rt); `python benchmarks/export_networks.py` makes those of the embedded networks.
"""

CIFAR_10_C_URL = "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar?download=1"
CIFAR_10_C_MD5 = "56bf5dcef84df0e2308c6dcbcbbd8499"  # as the record lists it

_EPILOG = f"""\
Methods:
{{methods}}
  all               all of them
  (by default: {", ".join(DEFAULT_METHODS)})

Streams (or all):
{{streams}}

With --stream a method runs in the engine that suits it: ours and inference in onnxruntime, peers in torch; ours with
`running` statistics at batch 1 and `batch` else. A combination that cannot be is left out, and why is said.

A network of your own: `ecotta prepare NETWORK --checkpoint W --data D --out DIR/net` makes DIR/net.safetensors and
DIR/net.ecotta-k4.safetensors; --network DIR/net.safetensors takes the first, and finds the other beside it.

`tent` is not the same in both engines. With --engine torch it takes Adam, the authors' configuration for CIFAR; with
--engine onnx SGD with momentum, theirs for ImageNet, since a bundle's step is SGD. Do not compare their errors.

Contestants of --latency: {", ".join(LATENCY_METHODS)}; `forward`, inference alone, always takes part. A name with
-fast is the step that takes more memory for less time, where a bundle has one; named, it is made.

Corruptions, in the official order:
  {" ".join(CORRUPTIONS[:8])}
  {" ".join(CORRUPTIONS[8:])}

Examples:
  ecotta-bench --memory                                     the embedded images, six methods
  ecotta-bench --memory --methods all --frames 192          every method: a quarter of an hour on two cores
  ecotta-bench --memory --methods source,tent,ecotta-k4 --device all
  ecotta-bench --memory --data CIFAR-10-C --frames 1000 --seed 1 --json result.json --plot result.svg
  ecotta-bench --memory --methods ecotta-k4 --batch 1 --normalisation running --json > one-by-one.json
  ecotta-bench --memory --engine onnx --batch 1 --normalisation running --threads 1
  ecotta-bench --memory --engine onnx --bundle net.ecotta --methods ecotta-k4 --normalisation running --frame-by-frame
  ecotta-bench --memory --engine onnx --batch 1 --normalisation running --enforce raspberry-pi-zero-2w
  ecotta-bench --memory --methods source,tent,cotta,ecotta-k4 --enforce 512MB
  ecotta-bench --stream continual,sorted --methods tent,ecotta-k4,ecotta-k4-warmed --data CIFAR --json streams.json
  ecotta-bench --stream all --seeds 0,1,2 --data CIFAR --json streams.json --plot streams.svg
  ecotta-bench --latency --json latency.json                batch 1 and 64, one and two threads
  ecotta-bench --latency --batch 1 --threads 1 --methods ecotta-k4 --normalisation running --rounds 30

CIFAR-10-C has 2.9 GB. To fetch it, and to go on where a transfer stopped; to check and unpack it:
  curl -L -C - -o CIFAR-10-C.tar '{CIFAR_10_C_URL}'
  echo '{CIFAR_10_C_MD5}  CIFAR-10-C.tar' | md5sum -c && tar xf CIFAR-10-C.tar

Ctrl-C ends the run and reports what is done. Corrupted images are kept in $ECOTTA_CACHE too, some 30 kB a frame of a
stream at most.

Exit codes:
  0 everything measured, 130 interrupted; else that of the first method without a result (1 where its process
  died, 3 where it was killed at the limit of --enforce)
  2 usage, 4 bad input file, 69 a missing extra or file, 74 input/output error
"""

_MEMORY_ONLY = (
    *("engines", "frames", "corruptions", "severity", "order", "memory_format", "allocator", "device", "plot"),
    *("enforce", "frame_by_frame", "fast", "step_lr", "l1_weight", "peer_lr", "views"),
)
_LATENCY_ONLY = ("rounds",)
_STREAM_ONLY = ("seeds", "keep")
_NOT_OF_STREAMS = ("order", "device", "enforce", "frame_by_frame", "fast")


def bench_parser() -> argparse.ArgumentParser:
    """The parser. What is not given is None, empty or False, so that each measurement has its own defaults."""
    methods = "\n".join(f"  {name:<17} {entry.description}" for name, entry in METHODS.items())
    streams = "\n".join(_described(protocol) for protocol in PROTOCOLS.values())
    epilog = _EPILOG.format(methods=methods, streams=streams)
    parser = CommandParser("ecotta-bench", description=_DESCRIPTION, epilog=epilog)
    parser.add_argument("-V", "--version", action="version", version=f"ecotta-bench {__version__}")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--memory", action="store_true", help="measure memory and error")
    mode.add_argument(
        "--stream", dest="streams", metavar="A,B", type=_names, default=(), help="play streams (see below)"
    )
    mode.add_argument("--latency", action="store_true", help="measure the time of a step, contestants in turns")
    _add_common(parser)
    _add_memory(parser)
    parser.add_argument("--rounds", metavar="N", type=integer, help=f"--latency: turns each ({LATENCY.rounds})")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    add, usual = parser.add_argument, Request()
    add(
        "--model",
        "--network",
        metavar="M",
        default=usual.model,
        help=f"trained network, by model id or file ({usual.model})",
    )
    add("--methods", metavar="A,B", type=_names, default=(), help="which methods (see below)")
    batch = f"frames a step ({usual.batches[0]}; --latency: 1,64)"
    add("--batch", dest="batches", metavar="N", type=_batches, default=(), help=batch)
    add("--threads", metavar="N", type=_threads, default=(), help="threads a process (all cores; --latency: 1,2)")
    modes = _one_of(NORMALISATIONS, "EcoTTA's norms") + "; --latency: all"
    add("--normalisation", dest="normalisations", metavar="MODE", type=_names, default=(), help=modes)
    add("--gradient", metavar="MODE", default=usual.gradient, help=_one_of(GRADIENTS, "through EcoTTA's frozen norms"))
    add("--data", metavar="DATA", default=usual.data, help=f"{usual.data}, or a folder with CIFAR-10-C, CIFAR-10 ...")
    add("--seed", metavar="S", type=integer, help=f"of stream and methods ({usual.seed})")
    add("--seeds", metavar="S,S", type=_seeds, default=(), help="--stream: several seeds")
    add("--keep", action="store_true", help="--stream: keep rows that other code has measured")
    add("--json", metavar="FILE", type=Path, nargs="?", const=STDOUT, help="write the figures (to stdout alone)")
    onnx = parser.add_argument_group("onnx")
    add = onnx.add_argument
    add("--bundle", metavar="FILE", type=Path, action="append", default=[], help="graphs to run, instead of looking")
    add("--optimisation", metavar="O", default=usual.optimisation, help=_one_of(OPTIMISATIONS, "of graphs at load"))
    add("--memory-kind", metavar="K", default=usual.memory_kind, help=_one_of(MEMORY_KINDS, "where tensors live"))


def _add_memory(parser: argparse.ArgumentParser) -> None:
    memory, usual = parser.add_argument_group("--memory"), Request()
    add = memory.add_argument
    add("--engine", dest="engines", metavar="E", type=_names, default=(), help=_one_of(ENGINES, "computes the step"))
    add("--frame-by-frame", action="store_true", help="onnx: learn from each batch in the memory of one frame")
    add("--fast", action="store_true", help="onnx: prefer the step of more memory and less time")
    add("--frames", metavar="N", type=integer, help=f"frames a corruption ({DEFAULT_FRAMES})")
    add("--corruptions", metavar="A,B", type=_names, default=(), help="which, in the order played (all 15)")
    add("--severity", metavar="S", type=integer, help=f"1 to 5 ({usual.severity})")
    add("--order", metavar="ORDER", help=_one_of(ORDERS, "of the corruptions"))
    add("--step-lr", metavar="LR", type=float, help=f"torch: EcoTTA's step size for 64 frames ({ADAPTATION['lr']:g})")
    add("--l1-weight", metavar="L", type=float, help=f"torch: lambda of EcoTTA's L1 ({ADAPTATION['l1_weight']:g})")
    add("--peer-lr", metavar="M=LR,M=LR", type=_rates, default={}, help="torch: step size of a peer (its paper's)")
    add("--views", metavar="N", type=integer, help="2 averages each frame's answer and its mirror image's (1)")
    add("--memory-format", metavar="F", help=_one_of(MEMORY_FORMATS, "torch: of all tensors"))
    add("--allocator", metavar="A", help=f"freed memory: {', '.join(ALLOCATORS)} (torch: returning, onnx: libc)")
    add("--device", metavar="ID", type=_names, action="append", default=[], help="mark what fits this device, or all")
    limit = "let the kernel kill what exceeds a device's default limit, or a size"
    add("--enforce", metavar="LIMIT", help=limit)
    add("--plot", metavar="FILE", type=Path, help="draw error against memory (streams: over time), .png or .svg")


def bench_request(args: argparse.Namespace) -> Request:
    """What was asked for.

    Raises:
        UsageError: An option of the other measurement.
    """
    if args.latency:
        _refuse(args, _MEMORY_ONLY, "--memory")
        _refuse(args, _STREAM_ONLY, "--stream")
        cores = usable_cores()
        usual = replace(LATENCY, threads=tuple(threads for threads in LATENCY.threads if threads <= max(1, cores)))
    elif args.streams:
        _refuse(args, _LATENCY_ONLY, "--latency")
        _refuse(args, _NOT_OF_STREAMS, "--memory")
        usual = STREAMS
    else:
        _refuse(args, _LATENCY_ONLY, "--latency")
        _refuse(args, _STREAM_ONLY, "--stream")
        usual = Request(threads=(usable_cores(),))
    given = {field.name: getattr(args, field.name) for field in fields(Request) if hasattr(args, field.name)}
    given["enforce"] = _limit(args.enforce)
    if not args.streams:
        given["engine"] = _one_engine(given.pop("engines"))
    else:
        given["streams"] = tuple(PROTOCOLS) if "all" in args.streams else args.streams
        given["seeds"] = args.seeds or (() if args.seed is None else (args.seed,))
    given["bundles"] = tuple(args.bundle)
    given["devices"] = tuple(device for devices in args.device for device in devices)
    learning = (("lr", args.step_lr), ("l1_weight", args.l1_weight))
    given["hyperparameters"] = {name: value for name, value in learning if value is not None}
    given["learning_rates"] = args.peer_lr
    return replace(usual, **{name: value for name, value in given.items() if value not in (None, ())})


def _refuse(args: argparse.Namespace, names: Sequence[str], mode: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) not in (None, False, (), [], {})]
    if given:
        raise UsageError(f"{', '.join(given)}: only for {mode}")


def _one_engine(engines: Sequence[str]) -> str | None:
    if len(engines) > 1:
        raise UsageError(f"--engine {','.join(engines)}: --memory takes one; run it once for each")
    return engines[0] if engines else None


def _described(protocol: Protocol) -> str:
    text = f"{protocol.summary} ({protocol.source.partition('(arXiv')[0] or protocol.source})"
    return textwrap.fill(text, 120, initial_indent=f"  {protocol.name:<17} ", subsequent_indent=" " * 20)


def _limit(text: str | None) -> int | str | None:
    """A size in bytes, or the name of a device: no id begins with a digit."""
    return byte_size(text) if text and text[0].isdecimal() and not text.endswith(".toml") else text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _batches(text: str) -> tuple[int, ...]:
    return tuple(batch_size(number) for number in _names(text))


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(integer(number) for number in _names(text))


def _rates(text: str) -> dict[str, float]:
    pairs = [pair.partition("=") for pair in _names(text)]
    try:
        rates = {name: float(rate) for name, _, rate in pairs}
    except ValueError:
        rates = {}
    if not pairs or len(rates) < len(pairs):
        raise argparse.ArgumentTypeError(f"{text!r}: expected METHOD=STEP, each method once, such as eata=0.02")
    return rates


def _threads(text: str) -> tuple[int, ...]:
    return tuple(thread_count(number) for number in _names(text))


def _one_of(choices: Sequence[str], what: str) -> str:
    return f"{what}: {', '.join(choices)} ({choices[0]})"
