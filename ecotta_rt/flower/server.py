"""The ServerApp: so many rounds, and after each what was merged in a folder.

    merged-1.state.safetensors    of the largest group, or of all
    round.json                    how many states, who was left out and why, who is in which group

The run's configuration (`[tool.flwr.app.config]` of the app, or `flwr run --run-config`):

    rounds = 1              how many
    out = "merged"          the folder
    rule = ""               "mean", "median", "trimmed-mean", "clipped-mean"; "": that of a robust merge, the last
    weights = ""            with the mean: "counts", by the frames behind each state; "": all alike
    clusters = false        true, or how many: states of one kind of place are merged with each other
    network = ""            digest of the network; "": that of most states
    bundle = ""             in its place the network's bundle: then it is known which norms boards hold
    source-share = 0.0      draw what is merged towards the bundle's own state
    most-left-out = 0.5     a round that leaves out a larger share of the states merges nothing
    least-nodes = 2         so many have to be connected
    wait-s = 300            for them
    timeout-s = 600         for their answers; who is later is asked again in the next round
    most-mib = 64           a longer state is left out
    most-states = 1         so many of a node count; a robust merge counts states, so more is more weight
    gateways = ""           nodes that are trusted with more: "NODE=20, NODE=5", by their ids
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from ecotta_rt.bundle import read_bundle
from ecotta_rt.errors import ConfigurationError
from ecotta_rt.files.atomic import check_target, write_atomic
from ecotta_rt.fleet.bundle_state import BundleState
from ecotta_rt.fleet.clusters import MOST_STATES
from ecotta_rt.fleet.folder import state_path, states_in
from ecotta_rt.fleet.options import RULES, MergeOptions
from ecotta_rt.flower.strategy import MergeStates, Round

__all__ = ["app", "merge_rounds", "strategy_of", "write_round"]

_ROUND = "round.json"
_DAY_S = 86_400
_MOST_STATES = 10_000
_MERGED = re.compile(r"merged-[1-9][0-9]*", re.ASCII)

T = TypeVar("T", str, bool)

app = ServerApp()


@app.main()
def merge_rounds(grid: Grid, context: Context) -> None:
    """Run the rounds of a run's configuration."""
    config = context.run_config
    strategy = strategy_of(config)
    strategy.start(
        grid,
        ArrayRecord(),
        num_rounds=_count(config, "rounds", 1, 10_000),
        timeout=_seconds(config, "timeout-s", 600.0),
    )


def strategy_of(config: Mapping[str, object]) -> MergeStates:
    """The strategy that a run's configuration asks for.

    Raises:
        ConfigurationError: A value of another kind, out of range, or that does not go with another one.
        InputFileError: The bundle cannot be read.
        TransferError: The folder cannot be written.
    """
    out = Path(_value(config, "out", "merged"))
    rule, weights = _value(config, "rule", ""), _value(config, "weights", "")
    if rule not in ("", *RULES) or weights not in ("", "equal", "counts"):
        raise ConfigurationError(
            f'run configuration: rule = "{rule}", weights = "{weights}": rules are {", ".join(RULES)}, weights counts '
            "and equal"
        )
    if weights == "counts" and rule != "mean":
        raise ConfigurationError('run configuration: weights = "counts" go with rule = "mean"; others weigh all alike')
    source_share, most_left_out = _share(config, "source-share", 0.0), _share(config, "most-left-out", 0.5)
    options = MergeOptions(
        rule=rule or None,
        weights=weights or None,
        robust=True,
        clusters=_clusters(config),
        network_digest=_value(config, "network", "") or None,
        bundle=_bundle_state(config),
        source_share=source_share,
        most_left_out=most_left_out,
    )
    check_target(out / _ROUND)
    return MergeStates(
        options,
        least_nodes=_count(config, "least-nodes", 2, 1_000_000),
        wait_s=_seconds(config, "wait-s", 300.0),
        most_mib=_count(config, "most-mib", 64, 1024),
        most_states=_count(config, "most-states", 1, _MOST_STATES),
        gateways=_gateways(config),
        done=lambda found: write_round(found, out),
    )


def write_round(found: Round, out: Path) -> None:
    """Write what was merged, in the place of what an earlier round has written; nothing where nothing was merged.

    Raises:
        TransferError: It cannot be written.
    """
    facts = {
        "round": found.number,
        "states": found.states,
        "left_out": found.left_out,
        "missing": found.missing,
        "lost": [str(node) for node in found.lost],  # of 64 bits, which not every reader of JSON has
        "groups": [[*group.members] for group in found.merged.groups] if found.merged else [],
    }
    if found.merged:
        written = []
        for number, group in enumerate(found.merged.groups, 1):
            written.append(state_path(out, f"merged-{number}"))
            write_atomic(written[-1], group.state.to_bytes())
        for name, path in states_in(out).items():
            if _MERGED.fullmatch(name) and path not in written:  # of a round with more groups
                path.unlink(missing_ok=True)
    write_atomic(out / _ROUND, f"{json.dumps(facts, indent=2)}\n".encode())


def _value(config: Mapping[str, object], name: str, default: T) -> T:
    """A value of the run's configuration, of the kind of its default."""
    value = config.get(name, default)
    if not isinstance(value, type(default)) or isinstance(value, bool) != isinstance(default, bool):
        raise ConfigurationError(f"run configuration: {name}: expected {type(default).__name__}, found {value!r}")
    return value


def _count(config: Mapping[str, object], name: str, default: int, most: int) -> int:
    value = config.get(name, default)
    if type(value) is not int or not 1 <= value <= most:
        raise ConfigurationError(f"run configuration: {name} = {value!r}: expected a whole number, 1 to {most}")
    return value


def _clusters(config: Mapping[str, object]) -> bool | int:
    """Whether there are to be any, or how many."""
    value = config.get("clusters", False)
    if not isinstance(value, int) or not (isinstance(value, bool) or 2 <= value <= MOST_STATES):
        raise ConfigurationError(
            f"run configuration: clusters = {value!r}: expected true, false, or 2 to {MOST_STATES}"
        )
    return value


def _share(config: Mapping[str, object], name: str, default: float) -> float:
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigurationError(f"run configuration: {name} = {value!r}: expected a share, 0 to 1")
    if name == "source-share" and value == 1:
        raise ConfigurationError("run configuration: source-share = 1: expected less; all of the source is the bundle")
    return float(value)


def _bundle_state(config: Mapping[str, object]) -> BundleState | None:
    path = _value(config, "bundle", "")
    if not path and config.get("source-share"):
        raise ConfigurationError("run configuration: source-share needs bundle: the source is the bundle's own state")
    if path and config.get("network"):
        raise ConfigurationError("run configuration: network and bundle both say which network; give one of them")
    return BundleState.of(read_bundle(path, verify=False)) if path else None


def _gateways(config: Mapping[str, object]) -> dict[int, int]:
    """How many states of which node count."""
    text, found = _value(config, "gateways", ""), {}
    for entry in filter(None, text.replace(" ", "").split(",")):
        match = re.fullmatch(r"([0-9]{1,20})=([0-9]{1,5})", entry, re.ASCII)
        if match is None or not 1 <= int(match[2]) <= _MOST_STATES:
            raise ConfigurationError(
                f'run configuration: gateways = "{text[:200]}": expected ids of nodes, and how many states of each '
                f'count, 1 to {_MOST_STATES}: "1234567890=20, 987654321=5"'
            )
        found[int(match[1])] = int(match[2])
    return found


def _seconds(config: Mapping[str, object], name: str, default: float) -> float:
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _DAY_S:
        raise ConfigurationError(f"run configuration: {name} = {value!r}: expected seconds, 0 to {_DAY_S:g}")
    return value
