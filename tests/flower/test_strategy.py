"""Rounds of the Strategy with the ClientApp's own functions on nodes, and without Flower's servers."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from ecotta_rt.bundle import read_bundle
from ecotta_rt.errors import ConfigurationError, TransferError
from ecotta_rt.fleet.bundle_state import BundleState
from ecotta_rt.fleet.merge import merge
from ecotta_rt.fleet.options import MergeOptions
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.state import AdaptState, FramesBehind
from fixtures.flower import Nodes, require_flwr

require_flwr()

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, RecordDict  # noqa: E402

from ecotta_rt.flower.server import merge_rounds, strategy_of  # noqa: E402
from ecotta_rt.flower.strategy import MergeStates  # noqa: E402

NETWORK = "ab" * 32
BOARDS = 8


def state(seed, place=0.0, network=NETWORK):
    rng = np.random.default_rng(seed)

    def arrays(*shape):
        return rng.normal(0, 0.1, shape).astype(np.float32)

    parameters = {"groups.0.weight": 1 + arrays(6)}
    statistics = {"norm.mean": place + arrays(4), "norm.variance": 1 + 0.1 * np.abs(arrays(4))}
    return AdaptState(parameters, parameters, statistics, network, FramesBehind(100 + seed, 10).metadata())


@pytest.fixture
def files(tmp_path):
    """A state's file of each board, by the id of its node."""
    paths = {node: tmp_path / "states" / f"{node}.state.safetensors" for node in range(1, BOARDS + 1)}
    for node, path in paths.items():
        state(node).save(path)
    return paths


@pytest.fixture
def nodes(files):
    return Nodes({node: {"state": str(path)} for node, path in files.items()})


def rounds_of(nodes, out, count=1, **config):
    strategy = strategy_of({"out": str(out), "wait-s": 0.0, **config})
    strategy.start(nodes, ArrayRecord(), num_rounds=count, timeout=1)
    return strategy.rounds


def expected(paths, **options):
    return [group.state.to_bytes() for group in merge([*paths], MergeOptions(robust=True, **options)).groups]


def written(out):
    return [path.read_bytes() for path in sorted(out.glob("merged-*.state.safetensors"))]


@pytest.mark.parametrize("rule", ["", "mean", "median"])
def test_a_round_merges_to_the_bit_what_merge_makes_of_the_same_files(nodes, files, tmp_path, rule):
    (only,) = rounds_of(nodes, tmp_path / "out", rule=rule)

    assert written(tmp_path / "out") == expected(files.values(), rule=rule or None)
    facts = json.loads((tmp_path / "out" / "round.json").read_text())
    assert (facts["round"], facts["states"], facts["lost"], facts["left_out"]) == (1, BOARDS, [], {})
    assert sorted(facts["groups"][0]) == sorted(f"{node}/{node}" for node in files)
    assert only.taken == 0


def test_nodes_that_are_late_or_fail_are_left_to_the_next_round(nodes, files, tmp_path):
    nodes.absent, nodes.broken = {2, 5}, {7}
    (first,) = rounds_of(nodes, tmp_path / "out")
    assert first.lost == [2, 5, 7]
    assert written(tmp_path / "out") == expected(path for node, path in files.items() if node not in (2, 5, 7))

    nodes.absent, nodes.broken = set(), set()
    rounds = rounds_of(nodes, tmp_path / "out", count=2)

    assert [found.lost for found in rounds] == [[], []]
    assert written(tmp_path / "out") == expected(files.values())


def hostile(array):
    """Gives a reply one state of that content in place of its own."""

    def change(content):
        content["states"] = ArrayRecord({"board": array})

    return change


def state_bytes(changed):
    data = changed.to_bytes()
    return Array("uint8", (len(data),), "ecotta.state", data)


def test_what_merge_refuses_is_left_out_and_named(nodes, files, tmp_path, caplog):
    nan = bytearray(files[1].read_bytes())
    nan[-4:] = np.float32(np.nan).tobytes()
    nodes.replies = {
        1: hostile(Array("uint8", (len(nan),), "ecotta.state", bytes(nan))),
        2: hostile(state_bytes(state(2, network="cd" * 32))),
        3: hostile(state_bytes(replace(state(3), parameters={"groups.0.weight": np.full(6, 1e9, np.float32)}))),
        4: hostile(Array("uint8", (3,), "ecotta.state", b"\0\0\0")),
        5: hostile(Array(np.ones(3))),  # of another kind: nothing that is a state
    }
    # Twice as many good ones: a state that is far away is far from most.
    good = {node: files[node] for node in (6, 7, 8)}
    for node in range(9, 16):
        state(node).save(tmp_path / "states" / f"{node}.state.safetensors")
        good[node] = tmp_path / "states" / f"{node}.state.safetensors"
        nodes.configs[node] = {"state": str(good[node])}

    with caplog.at_level(logging.WARNING, logger="flwr"):
        (found,) = rounds_of(nodes, tmp_path / "out")

    assert sorted(found.left_out) == ["1/board", "2/board", "3/board", "4/board"]
    assert written(tmp_path / "out") == expected(good.values())
    named = json.loads((tmp_path / "out" / "round.json").read_text())["left_out"]
    assert "NaN" in named["1/board"] and "network" in named["2/board"]


def test_a_board_that_asked_and_no_other_gets_the_state_of_its_own_cluster(tmp_path):
    configs = {}
    for node in range(1, 21):
        path = tmp_path / f"{node}.state.safetensors"
        state(node, place=5.0 * (node % 2)).save(path)
        configs[node] = {"state": str(path)}
        if node in (3, 4):
            configs[node]["merged"] = str(tmp_path / f"merged-{node}")
    nodes = Nodes(configs)

    (found,) = rounds_of(nodes, tmp_path / "out", clusters=True)

    day, night = expected((tmp_path / f"{node}.state.safetensors" for node in configs), clusters=True)
    assert written(tmp_path / "out") == [day, night]
    taken = {node: next((tmp_path / f"merged-{node}").iterdir()).read_bytes() for node in (3, 4)}
    assert {*taken.values()} == {day, night}
    mean = AdaptState.from_bytes(taken[3], "3").statistics["norm.mean"].mean()
    assert mean == pytest.approx(5.0, abs=0.2)
    assert found.taken == 2
    told = [message for message in nodes.sent if message.metadata.message_type == "evaluate"]
    assert sorted(message.metadata.dst_node_id for message in told) == [3, 4]


def test_who_sends_many_states_does_not_outvote_the_others(nodes, files, tmp_path):
    own = AdaptState.load(files[1])
    near = {name: 1.4 * array for name, array in own.parameters.items()}

    def many(content):
        states = {f"{n:03d}": state_bytes(replace(own, parameters=near)) for n in range(140)}
        content["states"] = ArrayRecord({"x" * 1000: state_bytes(own), **states})

    nodes.replies = {1: many}
    changed = tmp_path / "000"
    replace(own, parameters=near).save(changed)

    (found,) = rounds_of(nodes, tmp_path / "out")

    assert written(tmp_path / "out") == expected([changed, *(path for node, path in files.items() if node != 1)])
    assert found.states == 141 + BOARDS - 1
    assert found.left_out["1/001"] == "a node has 1 here; a gateway is given more (`gateways`)"
    assert found.left_out["1/..."] == "and 40 more states of this node"
    assert max(map(len, found.left_out)) <= 210


def test_many_states_of_another_network_do_not_choose_the_network(nodes, files, tmp_path):
    def many(content):
        content["states"] = ArrayRecord({str(n): state_bytes(state(n, network="cd" * 32)) for n in range(12)})

    nodes.replies = {1: many}

    (found,) = rounds_of(nodes, tmp_path / "out")

    assert written(tmp_path / "out") == expected(path for node, path in files.items() if node != 1)
    assert "cdcdcdcdcdcd" in found.left_out["1/0"]


def test_names_of_strangers_are_cut(nodes, files, tmp_path):
    def named(content):
        content["states"] = ArrayRecord({"x" * 100_000: state_bytes(state(1))})
        content["board"] = ConfigRecord({"asks": [], "missing": ["y" * 100_000], "why": ["z" * 100_000]})

    nodes.replies = {1: named}

    (found,) = rounds_of(nodes, tmp_path / "out")

    assert found.left_out == {f"1/{'x' * 200}": "its name has 100000 characters"}
    assert found.missing == {f"1/{'y' * 200}": "z" * 1000}
    assert (tmp_path / "out" / "round.json").stat().st_size < 5000


def test_a_gateway_gives_many_and_takes_each_group_once(tmp_path):
    for board in ("a", "b", "c"):
        (tmp_path / "drop").mkdir(exist_ok=True)
        state(ord(board)).save(tmp_path / "drop" / f"{board}.state.safetensors")
    (tmp_path / "drop" / "torn.state.safetensors").write_bytes(b"")
    nodes = Nodes({4: {"drop": str(tmp_path / "drop"), "merged": str(tmp_path / "merged")}})

    (found,) = rounds_of(nodes, tmp_path / "out", **{"least-nodes": 1, "gateways": "4=3, 5=2"})

    assert (found.states, found.taken, [*found.missing]) == (3, 3, ["4/torn"])
    files = sorted((tmp_path / "merged").iterdir())
    assert [path.name.partition(".")[0] for path in files] == ["a", "b", "c"]
    assert {path.read_bytes() for path in files} == {*written(tmp_path / "out")}
    (sent,) = [message for message in nodes.sent if message.metadata.message_type == "evaluate"]
    assert [*sent.content["states"]] == ["1"]


def test_a_round_in_which_nothing_can_be_merged_changes_nothing(nodes, files, tmp_path):
    rounds_of(nodes, tmp_path / "out")
    before = written(tmp_path / "out")
    nodes.replies = {node: hostile(Array("uint8", (1,), "ecotta.state", b"x")) for node in files}

    (found,) = rounds_of(nodes, tmp_path / "out")

    assert (found.merged, len(found.left_out)) == (None, BOARDS)
    assert written(tmp_path / "out") == before
    nodes.absent = {*files}
    (found,) = rounds_of(nodes, tmp_path / "out")
    assert (found.merged, found.lost) == (None, [*files])


def test_a_state_or_a_name_longer_than_allowed_is_left_out(nodes, files, tmp_path):
    nodes.replies = {
        1: hostile(Array("uint8", (2 << 20,), "ecotta.state", bytes(2 << 20))),
        2: lambda content: content.update(states=ArrayRecord({"x" * 5000: state_bytes(state(2))})),
    }

    (found,) = rounds_of(nodes, tmp_path / "out", **{"most-mib": 1})

    assert found.left_out == {
        "1/board": f"{2 << 20} bytes, more than {1 << 20}",
        f"2/{'x' * 200}": "its name has 5000 characters",
    }
    assert written(tmp_path / "out") == expected(path for node, path in files.items() if node > 2)


def test_replies_of_any_shape_end_no_round(nodes, files, tmp_path):
    def nothing(content):
        for key in [*content]:
            del content[key]

    def strange(content):
        content["board"] = ConfigRecord({"asks": 3, "missing": [1, 2], "why": "x"})

    nodes.replies = {1: nothing, 2: strange}

    (found,) = rounds_of(nodes, tmp_path / "out")

    assert (found.states, found.lost) == (BOARDS - 1, [])


def test_groups_of_an_earlier_round_do_not_stay(tmp_path, nodes):
    out = tmp_path / "out"
    out.mkdir()
    (out / "merged-2.state.safetensors").write_bytes(b"old")
    (out / "merged-by-hand.state.safetensors").write_bytes(b"somebody's")

    rounds_of(nodes, out)

    names = ["merged-1.state.safetensors", "merged-by-hand.state.safetensors", "round.json"]
    assert [path.name for path in sorted(out.iterdir())] == names


def test_too_few_nodes_are_waited_for_and_then_it_is_said(nodes):
    clock = ManualClock()
    strategy = MergeStates(MergeOptions(robust=True), least_nodes=9, wait_s=3.0, clock=clock)

    with pytest.raises(TransferError, match="8 nodes are connected after 3 s, fewer than 9"):
        strategy.start(nodes, ArrayRecord(), num_rounds=1)

    assert clock.slept_s == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"clusters": "two"}, "clusters = 'two': expected true, false, or 2 to"),
        ({"clusters": 1}, "clusters = 1: expected true, false, or 2 to"),
        ({"source-share": 0.5}, "source-share needs bundle"),
        ({"source-share": 1.5, "bundle": "net.ecotta"}, "source-share = 1.5: expected a share"),
        ({"source-share": 1.0, "bundle": "net.ecotta"}, "source-share = 1: expected less"),
        ({"most-left-out": "half"}, "most-left-out = 'half': expected a share"),
        ({"bundle": "net.ecotta", "network": "ab"}, "give one of them"),
        ({"least-nodes": 0}, "expected a whole number, 1 to"),
        ({"most-mib": "64"}, "expected a whole number"),
        ({"wait-s": -1}, "expected seconds"),
        ({"rule": "best"}, "rules are mean, median, trimmed-mean, clipped-mean"),
        ({"rule": "mean", "weights": "mine"}, "weights counts and equal"),
        ({"weights": "counts"}, "go with rule"),
        ({"most-states": 0}, "expected a whole number, 1 to"),
        ({"gateways": "door=3"}, "expected ids of nodes"),
        ({"gateways": "4=0"}, "expected ids of nodes"),
        ({"gateways": 4}, "gateways: expected str"),
    ],
)
def test_a_run_configuration_that_cannot_be_meant_is_refused(tmp_path, config, said):
    with pytest.raises(ConfigurationError, match=said):
        strategy_of({"out": str(tmp_path), **config})


def test_a_share_of_the_bundles_own_state_and_a_number_of_kinds(checkout, tmp_path):
    bundle = str(checkout / "tests" / "hostile" / "small.ecotta")
    source = read_bundle(bundle).initial_state()
    paths = {}
    for node in range(1, 7):
        moved = {n: a + np.float32(node * n.endswith(".mean")) for n, a in source.statistics.items()}
        paths[node] = tmp_path / f"{node}.state.safetensors"
        replace(source, statistics=moved, metadata=FramesBehind(9, 0).metadata()).save(paths[node])
    nodes = Nodes({node: {"state": str(path)} for node, path in paths.items()})

    config = {"bundle": bundle, "source-share": 0.5, "clusters": 2, "most-left-out": 0.1}
    rounds_of(nodes, tmp_path / "out", **config)

    options = {"bundle": BundleState.of(read_bundle(bundle)), "source_share": 0.5, "clusters": 2}
    assert len(written(tmp_path / "out")) == 2
    assert written(tmp_path / "out") == expected(paths.values(), **options)


def test_a_round_that_leaves_out_too_many_merges_nothing(nodes, files, tmp_path):
    state(1, network="cd" * 32).save(files[1])

    (only,) = rounds_of(nodes, tmp_path / "out", **{"most-left-out": 0.0})

    assert only.merged is None
    assert "would be left out, more than 0%" in next(iter(only.left_out.values()))
    assert not written(tmp_path / "out")


def test_a_merged_state_that_a_board_refuses_is_told(nodes, files, tmp_path, caplog, monkeypatch):
    nodes.configs[1]["merged"] = str(tmp_path / "merged")
    foreign = state(1, network="cd" * 32).to_bytes()
    monkeypatch.setattr("ecotta_rt.flower.strategy._contents", lambda merged: {"1": foreign})

    with caplog.at_level(logging.WARNING, logger="flwr"):
        (found,) = rounds_of(nodes, tmp_path / "out")

    assert found.taken == 0
    assert "1: not taken: merged state for 1: it belongs to another network" in caplog.text
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"rounds": 0}, "rounds = 0: expected a whole number, 1 to"),
        ({"timeout-s": "soon"}, "timeout-s = 'soon': expected seconds"),
    ],
)
def test_the_server_app_refuses_a_run_before_it_asks_anybody(nodes, tmp_path, config, said):
    with pytest.raises(ConfigurationError, match=said):
        merge_rounds(nodes, context_of({"out": str(tmp_path / "out"), **config}))

    assert nodes.sent == []


def test_the_server_app_runs_the_rounds_of_its_configuration(nodes, files, tmp_path):
    merge_rounds(nodes, context_of({"out": str(tmp_path / "out"), "rounds": 2, "wait-s": 0.0, "timeout-s": 1}))

    assert [message.metadata.group_id for message in nodes.sent] == ["1"] * BOARDS + ["2"] * BOARDS
    assert written(tmp_path / "out") == expected(files.values())


def context_of(config):
    return Context(1, 0, {}, RecordDict(), config)
