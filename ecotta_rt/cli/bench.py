"""The command `ecotta-bench`: measure test-time adaptation methods side by side, on one stream of corrupted images.

Never imports torch: each method is measured in a process of its own.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from ecotta_rt.bench.latency_report import print_latency_report
from ecotta_rt.bench.latency_request import make_latency_plan
from ecotta_rt.bench.latency_run import LatencyRun
from ecotta_rt.bench.memory_run import MemoryRun
from ecotta_rt.bench.plan import make_plan
from ecotta_rt.bench.plot import check_plot, draw_plot
from ecotta_rt.bench.report import print_report
from ecotta_rt.bench.results import Failure
from ecotta_rt.bench.run_progress import open_progress
from ecotta_rt.cli.bench_options import STDOUT, bench_parser, latency_request, memory_request
from ecotta_rt.cli.main import run_command
from ecotta_rt.errors import EXIT_INTERRUPTED
from ecotta_rt.files.output import check_output
from ecotta_rt.messages import tell

__all__ = ["main"]


class _Report(Protocol):
    def to_json(self) -> str: ...

    def write_json(self, path: Path) -> None: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ecotta-bench`.

    Args:
        argv: The arguments after the program's name; those of the process where None.

    Returns:
        The exit code.
    """
    return run_command("ecotta-bench", _bench, argv)


def _bench(argv: Sequence[str]) -> int:
    args = bench_parser().parse_args(argv)
    _check_outputs(args)
    return _latency(args) if args.latency else _memory(args)


def _memory(args: argparse.Namespace) -> int:
    plan = make_plan(memory_request(args))
    with open_progress("methods", len(plan.request.methods)) as progress:
        run = MemoryRun(plan, progress)
        interrupted = _interrupted(run.run)
    report = run.report()
    if report is not None:
        try:
            if args.plot is not None and report.rows:
                draw_plot(report, args.plot)
        finally:  # what is printed may end us, and is printed whatever becomes of the plot
            _write(report, args.json, lambda file: print_report(report, file))
    if interrupted:
        tell("ecotta-bench", f"interrupted, methods that were done: {len(run.outcomes)}")
        return EXIT_INTERRUPTED
    return _exit_code(report.failures if report is not None else ())


def _latency(args: argparse.Namespace) -> int:
    plan = make_latency_plan(latency_request(args))
    with open_progress("races", len(plan.starts)) as progress:
        run = LatencyRun(plan, progress)
        interrupted = _interrupted(run.run)
    report = run.report()
    if report is not None:
        _write(report, args.json, lambda file: print_latency_report(report, file))
    if interrupted:
        whole = sum(race.complete for race in run.races)
        tell("ecotta-bench", f"interrupted, races that were over: {whole} of {len(plan.starts)}")
        return EXIT_INTERRUPTED
    return _exit_code(report.failures if report is not None else ())


def _interrupted(run: Callable[[], None]) -> bool:
    """Run, and say whether Ctrl-C or SIGTERM ended it: with a report, and no process or folder left behind."""
    with _terminate_as_interrupt():
        try:
            run()
        except KeyboardInterrupt:
            return True
    return False


def _exit_code(failures: Sequence[Failure]) -> int:
    return failures[0].exit_code if failures else 0


def _write(report: _Report, json: Path | None, show: Callable[[TextIO], None]) -> None:
    if json == STDOUT:
        sys.stdout.write(report.to_json())
        return
    try:
        if json is not None:
            report.write_json(json)
    finally:  # a full disk must not take the figures with it
        show(sys.stdout)


def _check_outputs(args: argparse.Namespace) -> None:
    if args.json not in (None, STDOUT):
        check_output("--json", args.json, args.model, *args.bundle)
    if args.plot is not None:
        check_plot(args.plot)


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the run as Ctrl-C does, but for those that it was started to ignore."""
    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
