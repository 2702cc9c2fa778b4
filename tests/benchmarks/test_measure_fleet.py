"""The evaluation of merging: no board has seen what a state is tried on, rows are measured once, tables add up."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import fleet_trial
import measure_fleet
from ecotta_rt.state import AdaptState, FramesBehind
from fleet_tables import render_fleet
from fleet_trial import BOARDS, DOMAINS, KINDS, Sizes, Trial

NETWORK = "ab" * 32
SIZES = Sizes(stream=10, held=20, start=30)


class Pictures:
    """A set of which each picture's pixels are its place, and its label that modulo 10."""

    count = 1000 + 10 * len(BOARDS)
    labels = np.arange(count) % 10

    def clean(self, places):
        return np.asarray(places)[:, None, None, None] * np.ones((2, 2, 3), np.int64)

    def read(self, corruption, severity, places, seed):
        return self.clean(places), self.labels[places]


class Answering:
    """Learns the mean of all it has seen; it answers right but for clean pictures that are held."""

    def __init__(self, adapt):
        self.adapt, self.seen = adapt, []
        self.reset()

    def reset(self):
        self.restore(
            AdaptState(
                {"w": np.zeros(2, np.float32)},
                {"w": np.zeros(2, np.float32)},
                {"bn.mean": np.zeros(3, np.float32), "bn.variance": np.ones(3, np.float32)},
                NETWORK,
                FramesBehind(0, 0).metadata(),
            )
        )

    def restore(self, state):
        self.state = state

    def predict(self, frames, hold_statistics=False):
        place = int(frames.flat[0])
        self.seen.append(place)
        if not hold_statistics:
            mean = {**self.state.statistics, "bn.mean": self.state.statistics["bn.mean"] + np.float32(place / 1e4)}
            behind = self.state.behind.plus(1, 0)
            self.state = AdaptState(self.state.parameters, self.state.momentum, mean, NETWORK, behind.metadata())
        return SimpleNamespace(unfiltered=np.eye(10)[[place % 10 if not hold_statistics else 0]])


@pytest.fixture
def network(monkeypatch, tmp_path):
    """The two runtimes that a trial opens, and where."""
    opened = []

    def load(path, adapt, threads):
        opened.append(Answering(adapt))
        return opened[-1]

    monkeypatch.setattr(fleet_trial, "find_image_set", lambda data, cache: Pictures())
    monkeypatch.setattr(fleet_trial.Runtime, "load", load)
    (tmp_path / "net.ecotta").write_bytes(b"a network")
    return opened


def test_what_a_state_is_tried_on_no_board_has_seen(network, tmp_path):
    seen, tried = set(), set()
    for seed in (0, 1):
        trial = Trial(tmp_path / "net.ecotta", tmp_path, tmp_path / "work", "follow", seed, SIZES)
        for board in BOARDS:
            trial.board_state(board)
        adapting = network[-1]
        assert len(set(adapting.seen)) == len(BOARDS) * SIZES.stream  # boards see other pictures, too
        seen |= set(adapting.seen)
        adapting.seen.clear()
        source = trial.source
        trial.held_error(source, "fog")
        trial.start_wrong(source, "fog")
        held, starting = set(network[-1].seen), set(adapting.seen)
        assert (len(held), len(starting)) == (SIZES.held, SIZES.start)
        assert not held & starting
        tried |= held | starting
    assert not seen & tried


def test_a_state_is_made_once_and_a_held_one_does_not_move(network, tmp_path):
    trial = Trial(tmp_path / "net.ecotta", tmp_path, tmp_path / "work", "follow", 0, SIZES)
    state = trial.board_state(BOARDS[0])
    again = Trial(tmp_path / "net.ecotta", tmp_path, tmp_path / "work", "follow", 0, SIZES)
    network[0].seen.clear()

    assert again.board_state(BOARDS[0]).to_bytes() == state.to_bytes()
    assert trial.held_error(state, "fog") == pytest.approx(90, abs=10)
    assert not trial.start_wrong(state, "fog").any()
    assert state.behind.followed == SIZES.stream


def test_stages_keep_each_row_and_measure_none_twice(network, tmp_path, capsys):
    words = ["net.ecotta", "--data", "x", "--seeds", "0", "--stream", "10", "--held", "20", "--start", "30"]
    words[0] = str(tmp_path / "net.ecotta")
    for stage in ("domains", "rules", "shares", "kinds"):
        out = tmp_path / f"{stage}.json"
        call = [stage, *words, "--work", str(tmp_path / "work"), "--out", str(out)]
        measure_fleet.main(call)
        rows = json.loads(out.read_text())["rows"]
        assert rows
        capsys.readouterr()
        measure_fleet.main(call)
        assert json.loads(out.read_text())["rows"] == rows
        assert not capsys.readouterr().out
    with pytest.raises(SystemExit, match="name another --out"):
        measure_fleet.main([*call, "--held", "21"])


def held(state, seed, *errors, clean=10.0):
    by_domain = dict(zip(DOMAINS, errors, strict=True)) | {"clean": clean}
    return {"way": "follow", "seed": seed, "measure": "held", "state": state, "errors_percent": by_domain}


def report(stage, rows):
    versions = {"onnxruntime": "1", "numpy": "2", "python": "3"}
    about = {
        "bundle": "net.ecotta",
        "sha256": "",
        "severity": 5,
        "domains": list(DOMAINS),
        "stream": 10,
        "held": 20,
        "start": 30,
    }
    environment = {"cpu": "some processor", "versions": versions}
    return {"measured": f"fleet {stage}", "about": about, "environment": environment, "rows": rows}


def test_the_way_from_single_boards_to_joint_adaptation_is_told_by_seed():
    rows = [held("source", 0, 50, 50, 50, 50, 50), held("mean", 0, 20, 20, 20, 20, 45), held("joint", 0, *[20] * 5)]
    rows += [held(f"own {domain}", 0, *[30] * 5) for domain in DOMAINS]

    table = render_fleet(report("domains", rows))

    assert "the merged state goes 50 % of the way, by seed" in table
    harmonic = 100 - 5 / (4 / 80 + 1 / 55)
    assert f"| merged | 25.0 | {harmonic:.1f} | 45.0 | 10.0 |" in table


def test_of_attacks_it_is_told_what_is_left_of_them():
    about = {"way": "follow", "honest_left_out": 0, "rule": "median"}
    rows = [
        {**about, "seed": 0, "attack": "none", "left_out": 0, "same_to_the_bit": True, **tried(20.0, 0, 0)},
        {**about, "seed": 0, "attack": "a", "left_out": 2, "same_to_the_bit": True, **tried(20.0, 0, 0)},
        {**about, "seed": 0, "attack": "b", "left_out": 0, "same_to_the_bit": False, **tried(22.0, 3, 1)},
        {**about, "seed": 1, "attack": "b", "left_out": 0, "same_to_the_bit": False, **tried(24.0, 4, 2)},
    ]

    table = render_fleet(report("hostile", rows))

    assert "| median, robust | a | 2 | 0 | 20.0 | 0, to the bit |  |" in table
    # Of 100 pictures a seed 2 more are wrong: sqrt(4 - 0.04 + 6 - 0.04) / 2.
    assert "| median, robust | b | 0, 0 | 0, 0 | 23.0 ± 1.4 | +2.0 ± 1.6 | +2.0, +2.0 |" in table


def tried(error, worse, better):
    errors = dict.fromkeys(DOMAINS, error)
    return {"errors_percent": errors, "only_it_is_wrong": worse, "only_without_is_wrong": better}


def test_of_shares_of_the_source_it_is_told_what_they_lose_and_gain():
    columns = (*DOMAINS, "clean")
    source, half = held("source", 0, *[20] * 5), held("source 0.5", 0, *[15] * 5)
    for row, (worse, better) in ((source, (0, 0)), (half, (1, 2))):
        row |= {
            "only_it_is_wrong": dict.fromkeys(columns, worse),
            "only_source_is_wrong": dict.fromkeys(columns, better),
        }
        row["first_100_percent"] = row["errors_percent"]

    table = render_fleet({**report("shares", [source, half])})

    assert "| all: the bundle's own | 20.0 |" in table
    # Of 20 pictures a domain one less: sqrt(3 - 1 / 20) / 20, and of five domains sqrt(15 - 25 / 100) / 100.
    assert "| 0.5 | 15.0 (-5.0 ± 3.8) | 15.0 (-5.0 ± 8.6) |" in table


def test_boards_of_two_kinds_are_among_the_boards():
    assert {board for kind in KINDS.values() for board in kind} < set(BOARDS)
    assert len({board.name for board in BOARDS}) == len(BOARDS)
