"""The tables of measure_merging.py for docs/results-fleet.md; for render_results.py."""

import statistics
from typing import Any

__all__ = ["render_merging", "render_origins"]

_DOMAINS = {"usps": "USPS", "mnistm": "MNIST-M", "street": "street", "mnist": "MNIST"}
_NETWORKS = {"bn": "3 convolutions, BatchNorm", "gn": "3 convolutions, GroupNorm", "wrn": "WRN-10-1"}


def render_merging(report: dict[str, Any]) -> str:
    """Accuracies by domain and their harmonic mean, of each way to one network or to one a domain."""
    rows = list(report["rows"].values())
    lines = [
        f"| right answers, % | {' | '.join(_DOMAINS.values())} | H of the first three |",
        f"| --- |{' ---: |' * (len(_DOMAINS) + 1)}",
    ]
    for name in rows[0]["errors_percent"]:
        cells = []
        for domain in _DOMAINS:
            errors = [row["errors_percent"][name].get(domain) for row in rows]
            cells.append("" if None in errors else _spread([100 - error for error in errors]))
        cells.append(_spread([row["harmonic_mean_percent"][name] for row in rows]))
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join([*lines, _at_home(rows), "", _note(report, rows), ""])


def _at_home(rows: list[dict[str, Any]]) -> str:
    """What one has who keeps all networks and knows where each picture is from."""
    domains = [domain for domain in _DOMAINS if f"tuned to {domain} alone" in rows[0]["errors_percent"]]
    rights = [[100 - row["errors_percent"][f"tuned to {domain} alone"][domain] for domain in domains] for row in rows]
    cells = [_spread([row[place] for row in rights]) for place in range(len(domains))]
    return (
        f"| each alone, at home | {' | '.join(cells)} |  | {_spread([statistics.harmonic_mean(r) for r in rights])} |"
    )


def render_origins(report: dict[str, Any]) -> str:
    """Cosines and barriers of pairs from one checkpoint, and of pairs from two, with each network."""
    lines = [
        "| network | pairs | cosine of the weights | barrier on pictures | above the limit | too few pictures |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    highest = report["about"]["highest_barrier"]
    for network in dict.fromkeys(row["network"] for row in report["rows"].values()):
        pairs = [pair for row in report["rows"].values() if row["network"] == network for pair in row["pairs"]]
        for one_origin in (True, False):
            same = [pair for pair in pairs if pair["one_origin"] == one_origin]
            shares = [pair["barrier"] for pair in same if pair["barrier"] is not None]
            cells = [
                _NETWORKS[network],
                f"{len(same)} of {'one checkpoint' if one_origin else 'two random starts'}",
                _range([pair["cosine"] for pair in same]),
                _range(shares),
                f"{sum(share > highest for share in shares)} of {len(shares)}",
                str(len(same) - len(shares)),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    about, row = report["about"], next(iter(report["rows"].values()))
    note = (
        f"Least, median and most of all pairs. Limits: cosine at least {about['least_cosine']:g}, barrier at most "
        f"{about['highest_barrier']:g}. {about['unlabelled']} pictures of each of the two networks' domains. "
        f"{_machine(row)}"
    )
    return "\n".join([*lines, "", note, ""])


def _range(values: list[float]) -> str:
    return " / ".join(f"{one:.2f}" for one in (min(values), statistics.median(values), max(values)))


def _spread(values: list[float], digits: int = 1) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def _note(report: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    about = report["about"]
    how = "labels" if about["labels"] else "DANN, without labels of the domains,"
    lr = about["share"] * about["lr"][about["network"]]
    minutes = sum(sum(row["processor_seconds"].values()) for row in rows) / 60
    return (
        f"Mean ± standard deviation of the seeds {', '.join(str(row['seed']) for row in rows)}. "
        f"{_NETWORKS[about['network']]}; tuned with {how} at a step size of {lr:g}. Cosine of two networks' weights "
        f"{_spread([one for row in rows for one in row['cosines']], 2)}, barrier "
        f"{_spread([one for row in rows for one in row['barriers']], 2)}. {minutes:.1f} minutes of a core "
        f"for all. {_machine(rows[0])}"
    )


def _machine(row: dict[str, Any]) -> str:
    environment = row["environment"]
    versions = environment["versions"]
    return f"{environment['cpu']}, torch {versions['torch']}, Python {versions['python']}."
