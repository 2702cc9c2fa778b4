"""The command `ecotta-bench`: measure test-time adaptation methods side by side, on one stream of corrupted images.

Never imports torch: each method is measured in a process of its own.
"""

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ecotta_rt.bench.bundles import cache_folder
from ecotta_rt.bench.plan import make_plan
from ecotta_rt.bench.plot import draw_plot
from ecotta_rt.bench.report import print_report
from ecotta_rt.bench.request import Request
from ecotta_rt.bench.results import BenchReport
from ecotta_rt.bench.run import BenchRun
from ecotta_rt.bench.streams.plan import make_stream_plan
from ecotta_rt.bench.streams.plot import draw_streams
from ecotta_rt.bench.streams.report import print_streams
from ecotta_rt.bench.streams.results import StreamsFile, Subject
from ecotta_rt.bench.streams.run import StreamRun
from ecotta_rt.cli.bench_options import STDOUT, bench_parser, bench_request
from ecotta_rt.cli.main import run_command
from ecotta_rt.cli.progress import RunProgress
from ecotta_rt.errors import EXIT_INTERRUPTED
from ecotta_rt.files.figure import check_figure
from ecotta_rt.files.output import check_output
from ecotta_rt.messages import tell

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ecotta-bench` with `argv`, by default the process's arguments; returns the exit code."""
    return run_command("ecotta-bench", _bench, argv)


def _bench(argv: Sequence[str]) -> int:
    args = bench_parser().parse_args(argv)
    _check_outputs(args)
    request = bench_request(args)
    if request.streams:
        return _play_streams(args, request)
    plan = make_plan(request)
    parts = len({(case.batch, case.threads) for case in plan.cases}) if plan.request.timed else len(plan.cases)
    interrupted = False
    with RunProgress(parts) as progress:
        run = BenchRun(plan, progress)
        try:
            with _terminate_as_interrupt():
                run.run()
        except KeyboardInterrupt:  # with a report, and no process or folder left behind
            interrupted = True
    report = run.report()
    if report is not None:
        try:
            if args.plot is not None and report.rows:
                draw_plot(report, args.plot)
        finally:  # the table is printed even if the plot fails, and printing may end the process
            _write(report, args.json)
    if interrupted:
        tell("ecotta-bench", f"interrupted, {run.state}")
        return EXIT_INTERRUPTED
    return report.failures[0].exit_code if report is not None and report.failures else 0


def _play_streams(args: argparse.Namespace, request: Request) -> int:
    plan = make_stream_plan(request, cache_folder() / "pixels")
    path = None if args.json == STDOUT else args.json
    subject = Subject(plan.files.model, plan.files.digest(), plan.images.name)
    interrupted = False
    with RunProgress(len(plan.cases) * len(request.streams) * len(request.seeds)) as progress:
        run = StreamRun(plan, StreamsFile(path, subject), progress)
        try:
            with _terminate_as_interrupt():
                run.run()
        except KeyboardInterrupt:  # every row that was done is in the file
            interrupted = True
    report = run.report()
    if args.json == STDOUT:
        sys.stdout.write(report.to_json())
    else:
        print_streams(report, run.failures, sys.stdout)
    if args.plot is not None and report.rows:
        draw_streams(report, args.plot)
    if interrupted:
        tell("ecotta-bench", f"interrupted, rows that are there: {len(report.rows)}")
        return EXIT_INTERRUPTED
    return run.failures[0].exit_code if run.failures else 0


def _write(report: BenchReport, json: Path | None) -> None:
    if json == STDOUT:
        sys.stdout.write(report.to_json())
        return
    try:
        if json is not None:
            report.write_json(json)
    finally:  # a full disk must not take the figures with it
        print_report(report, sys.stdout)


def _check_outputs(args: argparse.Namespace) -> None:
    if args.json not in (None, STDOUT):
        check_output("--json", args.json, args.model, *args.bundle)
    if args.plot is not None:
        check_figure(args.plot)


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the run as Ctrl-C does, unless it was started to ignore them."""
    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
