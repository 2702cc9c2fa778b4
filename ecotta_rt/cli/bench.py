"""The command `ecotta-bench`: measure test-time adaptation methods side by side, on one stream of corrupted images.

Never imports torch: each method is measured in a process of its own.
"""

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ecotta_rt.bench.allocator import ALLOCATORS
from ecotta_rt.bench.download_progress import download_progress
from ecotta_rt.bench.memory_run import MemoryRun
from ecotta_rt.bench.peers import METHODS
from ecotta_rt.bench.plot import check_plot, draw_plot
from ecotta_rt.bench.progress import open_watch
from ecotta_rt.bench.report import print_report
from ecotta_rt.bench.request import (
    GRADIENTS,
    MEMORY_FORMATS,
    NORMALISATIONS,
    ORDERS,
    Request,
    check_choice,
    check_request,
    make_plan,
)
from ecotta_rt.bench.results import Report
from ecotta_rt.bench.streams import CORRUPTIONS
from ecotta_rt.bench.streams.download import download_cifar10c
from ecotta_rt.bench.streams.sources import EMBEDDED
from ecotta_rt.cli.main import run_command
from ecotta_rt.errors import EXIT_INTERRUPTED, UsageError
from ecotta_rt.this_machine import usable_cores

__all__ = ["main"]

_STDOUT = Path("-")
_ENGINES = ("torch",)

_DESCRIPTION = """\
Measure test-time adaptation methods side by side, on one stream of corrupted images.

--memory plays the stream once to each method, each in a fresh process, and reports three levels of memory beside the
error of that very run: activations kept for the backward, the peak of live tensors, and the peak of the process.
"""

_EPILOG = f"""\
Methods:
{{methods}}
  all               all of them

Corruptions, in the official order:
  {" ".join(CORRUPTIONS[:8])}
  {" ".join(CORRUPTIONS[8:])}

Examples:
  ecotta-bench --memory                                     the embedded images, every method but cotta
  ecotta-bench --memory --methods source,tent,ecotta-k4 --device all
  ecotta-bench --memory --data CIFAR-10-C --frames 1000 --seed 1 --json result.json --plot result.svg
  ecotta-bench --memory --data ~/data --download
  ecotta-bench --memory --methods ecotta-k4 --batch 1 --normalisation running --json > one-by-one.json

Ctrl-C ends the run and reports the methods that are done.

Exit codes:
  0 every method measured, 130 interrupted; else that of the first method without a result (1 where its process died)
  2 usage, 4 bad input file, 69 a missing extra or file, 74 input/output error
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ecotta-bench`.

    Args:
        argv: The arguments after the program's name; those of the process where None.

    Returns:
        The exit code.
    """
    return run_command("ecotta-bench", _bench, argv)


def _bench(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    check_choice("--engine", args.engine, _ENGINES)
    _check_outputs(args)
    request = _request(args)
    if args.download:
        check_request(request)
        _download(args.data)
    plan = make_plan(request)
    interrupted = False
    with open_watch(len(plan.request.methods)) as watch, _terminate_as_interrupt():
        run = MemoryRun(plan, watch)
        try:
            run.run()
        except KeyboardInterrupt:
            interrupted = True
    report = run.report()
    if report is not None:
        _write(report, args)
    if interrupted:
        print(f"ecotta-bench: interrupted, methods that were done: {len(run.outcomes)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return report.failures[0].exit_code if report is not None and report.failures else 0


def _write(report: Report, args: argparse.Namespace) -> None:
    if args.json == _STDOUT:
        sys.stdout.write(report.to_json())
    else:
        try:
            if args.json is not None:
                report.write_json(args.json)
        finally:  # a full disk must not take the figures with it
            print_report(report, sys.stdout)
    if args.plot is not None and report.rows:
        draw_plot(report, args.plot)


def _download(data: str) -> None:
    """Fetch CIFAR-10-C into the folder `data`, unless it is there."""
    if data == EMBEDDED:
        raise UsageError("--download fetches CIFAR-10-C (2.9 GB): say where to with --data FOLDER")
    folder = Path(data)
    with download_progress("CIFAR-10-C") as progress:
        download_cifar10c(folder.parent if folder.name == "CIFAR-10-C" else folder, progress=progress)


def _check_outputs(args: argparse.Namespace) -> None:
    if args.json is not None and not args.json.parent.is_dir():
        raise UsageError(f"--json {args.json}: there is no folder {args.json.parent}; make it first")
    if args.json is not None and args.json.is_dir():
        raise UsageError(f"--json {args.json}: this is a folder; name a file in it")
    if args.plot is not None:
        check_plot(args.plot)


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: with a report, and no process or temporary folder left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _request(args: argparse.Namespace) -> Request:
    return Request(
        model=args.model,
        methods=args.methods,
        batch=args.batch,
        normalisation=args.normalisation,
        gradient=args.gradient,
        data=args.data,
        frames=args.frames,
        corruptions=args.corruptions,
        severity=args.severity,
        order=args.order,
        seed=args.seed,
        threads=args.threads,
        memory_format=args.memory_format,
        allocator=args.allocator,
        devices=tuple(device for devices in args.device for device in devices),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _parser() -> argparse.ArgumentParser:
    methods = "\n".join(f"  {name:<17} {entry.description}" for name, entry in METHODS.items())
    parser = argparse.ArgumentParser(
        "ecotta-bench",
        description=_DESCRIPTION,
        epilog=_EPILOG.format(methods=methods),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add, usual = parser.add_argument, Request()
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--memory", action="store_true", help="measure memory and error")
    add("--model", metavar="M", default=usual.model, help=f"trained network, by model id or file ({usual.model})")
    add("--methods", metavar="A,B", type=_names, default=(), help="which methods (all but cotta)")
    add("--engine", metavar="E", default="torch", help="what computes EcoTTA's step (torch)")
    add("--batch", metavar="N", type=int, default=usual.batch, help=f"frames a step ({usual.batch})")
    add("--normalisation", metavar="MODE", default=usual.normalisation, help=_one_of(NORMALISATIONS, "EcoTTA's norms"))
    add("--gradient", metavar="MODE", default=usual.gradient, help=_one_of(GRADIENTS, "through EcoTTA's frozen norms"))
    add("--data", metavar="DATA", default=usual.data, help=f"{usual.data}, or a folder with CIFAR-10-C, CIFAR-10 ...")
    add("--download", action="store_true", help="first fetch CIFAR-10-C (2.9 GB) into the folder of --data")
    add("--frames", metavar="N", type=int, help="frames a corruption (192)")
    add("--corruptions", metavar="A,B", type=_names, default=CORRUPTIONS, help="which, in the order played (all 15)")
    add("--severity", metavar="S", type=int, default=usual.severity, help=f"1 to 5 ({usual.severity})")
    add("--order", metavar="ORDER", default=usual.order, help=_one_of(ORDERS, "of the corruptions"))
    add("--seed", metavar="S", type=int, default=usual.seed, help=f"of stream and methods ({usual.seed})")
    add("--threads", metavar="N", type=int, default=usable_cores(), help="threads a process (all cores)")
    add("--memory-format", metavar="F", default=usual.memory_format, help=_one_of(MEMORY_FORMATS, "of all tensors"))
    add("--allocator", metavar="A", default=usual.allocator, help=_one_of(tuple(ALLOCATORS), "freed memory"))
    add("--device", metavar="ID", type=_names, action="append", default=[], help="mark what fits this device, or all")
    add("--json", metavar="FILE", type=Path, nargs="?", const=_STDOUT, help="write the figures (to stdout alone)")
    add("--plot", metavar="FILE", type=Path, help="draw error against memory, .png or .svg")
    return parser


def _one_of(choices: Sequence[str], what: str) -> str:
    return f"{what}: {', '.join(choices)} ({choices[0]})"


if __name__ == "__main__":
    sys.exit(main())
