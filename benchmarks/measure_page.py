"""What health checks, metrics and the live page cost a daemon: memory, and the time to an answer while others ask.

    python benchmarks/measure_page.py NET.ecotta        three minutes; writes benchmarks/results/page.json

Parts:

    memory    resident, with one synthetic camera of 640 x 360 pixels, a frame a second: without the door, with it while
              /metrics and /healthz are asked, and with a page that looks at the camera; three turns
    latency   from capture to answer at 5 frames a second: nobody asks, five pages look once a second, and four others
              open 80 connections a second and finish none of their requests
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.machine.proc import PROC, sizes

MIB = 2**20
PORT = 8653
MEMORY_S, PARTS_S = 8.0, 20.0
CONFIG = """\
config_version = 1
[network]
bundle = "{bundle}"
threads = 1
[state]
folder = "{folder}/state"
[[camera]]
name = "a"
source = "synthetic:a?fps={fps}&size=640x360"
[http]
enabled = {enabled}
page = true
port = {port}
[[sink]]
kind = "json-lines"
events = ["answer"]
file = "{folder}/lines.jsonl"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "page.json")
    args = parser.parse_args()
    report = json.loads(args.out.read_text()) if args.out.exists() else {}
    report |= {"measured": "page", "environment": asdict(read_environment(1)), "network": args.bundle.stem}
    for part in args.parts:
        report[part] = {"load": os.getloadavg()[0], "found": PARTS[part](args.bundle)}
        print(part, json.dumps(report[part]))
        write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())


def memory(bundle: Path) -> dict[str, list[float]]:
    """MiB that are resident, turn by turn: the share of it, PSS, moves with what others on the machine run."""
    asked = {"without": [], "metrics": ["metrics", "healthz"], "page": ["status.json", "picture.png?camera=a"]}
    found: dict[str, list[float]] = {name: [] for name in asked}
    for name in 3 * list(asked):
        with served(bundle, fps=1, enabled=name != "without") as (process, _):
            time.sleep(MEMORY_S)
            for _ in range(20):
                for target in asked[name]:
                    ask(target)
                time.sleep(0.2)
            found[name].append(round(sizes(PROC / str(process.pid) / "smaps_rollup")["Rss"] / MIB, 1))
    return found


def latency(bundle: Path) -> dict[str, dict[str, float]]:
    """Milliseconds."""
    crowds: dict[str, list[Callable[[threading.Event], None]]] = {
        "nobody": [],
        "five pages": [look] * 5,
        "unfinished requests": [begin_requests] * 4,
    }
    found = {}
    with served(bundle, fps=5, enabled=True) as (_, lines):
        time.sleep(PARTS_S)
        for name, crowd in crowds.items():
            with together(crowd):
                before = len(answered(lines))
                time.sleep(PARTS_S)
                times = sorted(answered(lines)[before:])
            median, late = statistics.median(times), times[int(0.95 * len(times))]
            found[name] = {"frames": len(times), "median_ms": median, "p95_ms": late, "most_ms": times[-1]}
    return found


@contextlib.contextmanager
def served(bundle: Path, *, fps: int, enabled: bool) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A daemon, until the end of the block, and the file of its lines."""
    with tempfile.TemporaryDirectory() as folder:
        config, door = Path(folder) / "page.toml", "true" if enabled else "false"
        config.write_text(CONFIG.format(bundle=bundle.resolve(), folder=folder, fps=fps, enabled=door, port=PORT))
        command = [sys.executable, "-m", "ecotta_rt", "serve", str(config), "--trial", "off"]
        process = subprocess.Popen(command)
        try:
            yield process, Path(folder) / "lines.jsonl"
        finally:
            process.terminate()
            process.wait(20)


def answered(lines: Path) -> list[float]:
    """The latency of each answer so far; a last line may still be on its way."""
    whole = lines.read_text().rpartition("\n")[0].splitlines()
    return [json.loads(line)["latency_ms"] for line in whole]


def ask(target: str) -> None:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{PORT}/{target}", timeout=10) as reply:
        reply.read()


def look(done: threading.Event) -> None:
    """As the live page does, once a second."""
    while not done.wait(1.0):
        ask("status.json")
        ask("picture.png?camera=a")


def begin_requests(done: threading.Event) -> None:
    """Begin a request twenty times a second, and finish none."""
    open_ones: list[Any] = []
    while not done.wait(0.05):
        with contextlib.suppress(OSError):
            open_ones.append(socket.create_connection(("127.0.0.1", PORT), timeout=10))
            open_ones[-1].sendall(b"GET / HTTP/1.1\r\nHost: local")
    for one in open_ones:
        one.close()


@contextlib.contextmanager
def together(crowd: list[Callable[[threading.Event], None]]) -> Iterator[None]:
    done = threading.Event()
    threads = [threading.Thread(target=one, args=(done,)) for one in crowd]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


PARTS = {"memory": memory, "latency": latency}

if __name__ == "__main__":
    main()
