"""Write anew the parts of README.md and docs/ that are made from the code, the device profiles and the examples.

    make pages          this, and benchmarks/render_results.py for the tables of results

A part stands between `<!-- BEGIN KIND: NAME -->` and `<!-- END KIND: NAME -->`, so that the pages are plain Markdown
that reads well wherever it is shown. Kinds:

    COMMAND    the help of a command, from its own parser; NAME is `ecotta run`
    API        signature and docstring of a public name, read from the source
    DEVICES    the table of boards and phones, from devices/
    BOARDS     the smallest board for each network, from benchmarks/results/budgets.json
    STREAMS    the protocols of `ecotta-bench --stream`
    ERRORS     the errors and their exit codes
    METRICS    the metrics of the daemon
    EXAMPLE    a file of docs/examples/
    CONFIGURATION  the fields of a table of the daemon's configuration; NAME is the table
    COPY       a section of another page; NAME is FILE#heading

A test fails where a part and what it is made from differ.
"""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import api_pages
from configuration_tables import configuration
from ecotta_rt import errors
from ecotta_rt.bench.streams import PROTOCOLS
from ecotta_rt.cli.bench_options import bench_parser
from ecotta_rt.daemon.http.metrics import METRICS
from ecotta_rt.machine.device import DeviceProfile, device_ids, load_device

REPOSITORY = Path(__file__).resolve().parent.parent
_KINDS = "COMMAND|API|DEVICES|BOARDS|STREAMS|ERRORS|CONFIGURATION|METRICS|EXAMPLE|COPY"
BLOCK = re.compile(rf"(<!-- BEGIN ({_KINDS}): (.*?) -->\n)(.*?)(<!-- END \2: \3 -->)", re.DOTALL)
LANGUAGES = {
    ".py": "python",
    ".mjs": "javascript",
    ".toml": "toml",
    ".yaml": "yaml",
    ".service": "ini",
    ".json": "json",
    ".sh": "bash",
}
_MIB = 2**20


def pages() -> list[Path]:
    """README.md and everything under docs/."""
    found = (REPOSITORY / "docs").rglob("*.md")
    return [REPOSITORY / "README.md", *sorted(page for page in found if "node_modules" not in page.parts)]


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of `ecotta NAME` or `ecotta-bench`."""
    if command == "ecotta-bench":
        return bench_parser()
    module = import_module(f"ecotta_rt.cli.{command.removeprefix('ecotta ').replace(' ', '_')}")
    parser = argparse.ArgumentParser(command, description=module.__doc__, allow_abbrev=False)
    module.add_arguments(parser)
    return parser


def command(name: str) -> str:
    """What `--help` says, as a list; without the line breaks that argparse sets in one version and not in another."""
    parser = parser_of(name)
    about = f"{inspect.cleandoc(parser.description or '')}\n\n{inspect.cleandoc(parser.epilog or '')}".strip()
    lines = ["```text", about, "```", ""]
    for group in parser._action_groups:
        options = [_option(action) for action in group._group_actions if action.dest != "help"]
        if options:
            lines += [f"**{(group.title or '').strip(':')}**", "", *options, ""]
    return "\n".join(lines)


def _option(action: argparse.Action) -> str:
    shown = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    value = shown if isinstance(shown, str) else " ".join(shown)
    if action.nargs == 0:
        value = ""
    elif action.nargs in ("?", "*"):
        value = f"[{value}]"
    elif action.nargs == "+":
        value = f"{value} ..."
    names = ", ".join(action.option_strings)
    told = (action.help or "").replace("%%", "%").replace("*", r"\*")
    return f"- `{f'{names} {value}'.strip()}`: {told}"


def api(name: str) -> str:
    """Signature and docstring of `ecotta_rt.NAME` or of a name in a module."""
    return api_pages.described(name)


def devices(_: str) -> str:
    """One row a profile; sizes in MiB, with the mark of each."""
    lines = [
        "| id | name | RAM | left after boot | our default limit | cores | instruction set | onnxruntime |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for profile in _boards():
        sizes = (profile.ram_bytes, profile.available_bytes, profile.default_limit_bytes)
        cells = [f"`{profile.id}`", profile.name, *map(_mib, sizes), str(profile.cores), " ".join(profile.isa)]
        wheels = "in the app" if profile.host == "native" else profile.wheels
        lines.append(f"| {' | '.join([*cells, wheels])} |")
    return "\n".join([*lines, ""])


def boards(_: str) -> str:
    """The planned peak of each network, and the smallest Raspberry Pi whose default limit it keeps."""
    report = json.loads((REPOSITORY / "benchmarks" / "results" / "budgets.json").read_text())
    usual = {"threads": 1, "optimisation": "all", "memory": "arena"}
    ways = {
        "answers only": "observe-1",
        "learns from each frame": "step-1",
        "learns from 64 frames at once": "accumulate",
    }
    old_name = {"predict-1": "observe-1"}  # of figures from bundles up to version 4
    lines = [f"| network | {' | '.join(ways)} |", "| --- | --- | --- | --- |"]
    peaks = {
        (row["network"], "accumulate" if row["frame_by_frame"] else old_name.get(row["graph"], row["graph"])): row[
            "planned_bytes"
        ]
        for row in report["rows"]
        if row["session_options"] == usual and row["normalisation"] == "running"
    }
    for network in dict.fromkeys(network for network, _ in peaks):
        cells = [_smallest(peaks[network, way]) if (network, way) in peaks else "" for way in ways.values()]
        lines.append(f"| {network} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _smallest(need_bytes: int) -> str:
    """Of boards with the same limit the one that its maker still sells: the last by name."""
    pis = [profile for profile in _boards() if profile.id.startswith("raspberry-pi") and profile.fits(need_bytes)]
    least = min((profile.default_limit_bytes for profile in pis), default=0)
    names = sorted(profile.name for profile in pis if profile.default_limit_bytes == least)
    return f"{_mib(need_bytes)} MiB: {names[-1] if names else 'none of the boards'}"


def streams(_: str) -> str:
    """One row a protocol."""
    lines = ["| stream | shows | asks | source |", "| --- | --- | --- | --- |"]
    for protocol in PROTOCOLS.values():
        lines.append(f"| `{protocol.name}` | {protocol.summary} | {protocol.asks} | {protocol.source} |")
    return "\n".join([*lines, ""])


def errors_table(_: str) -> str:
    """One row an error, in the order of the tree."""
    lines = ["| error | exit code | also a | means |", "| --- | ---: | --- | --- |"]
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, errors.EcottaError):
            bases = [base.__name__ for base in kind.__bases__ if base not in (errors.EcottaError, Exception)]
            told = (kind.__doc__ or "").splitlines()[0]
            lines.append(f"| `{name}` | {kind.exit_code} | {', '.join(f'`{base}`' for base in bases)} | {told} |")
    return "\n".join([*lines, ""])


def metrics(_: str) -> str:
    """One row a metric, in the order in which they are written."""
    lines = ["| metric | type | labels | is |", "| --- | --- | --- | --- |"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join([*lines, ""])


def example(name: str) -> str:
    """A file of docs/examples/, whole."""
    path = REPOSITORY / "docs" / "examples" / name
    return f"```{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8').strip()}\n```\n"


def copy(name: str) -> str:
    """What stands under a heading of another file, up to the end of it."""
    file, _, heading = name.partition("#")
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    return text.partition(f"## {heading}\n\n")[2].partition("\n## ")[0].strip() + "\n"


def _boards() -> list[DeviceProfile]:
    return [load_device(device) for device in device_ids() if device != "this-machine"]


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / _MIB:.0f}"


FILLERS: dict[str, Callable[[str], str]] = {
    "COMMAND": command,
    "API": api,
    "DEVICES": devices,
    "BOARDS": boards,
    "STREAMS": streams,
    "ERRORS": errors_table,
    "METRICS": metrics,
    "CONFIGURATION": configuration,
    "EXAMPLE": example,
    "COPY": copy,
}


def written(text: str) -> str:
    """`text` with every part made anew."""
    return BLOCK.sub(lambda match: f"{match[1]}{FILLERS[match[2]](match[3])}{match[5]}", text)


def main() -> int:
    """Write the pages of this checkout."""
    for page in pages():
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
