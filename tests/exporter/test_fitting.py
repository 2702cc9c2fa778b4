from dataclasses import replace

import pytest

from ecotta_rt.bundle import read_bundle
from ecotta_rt.bundle.figures import SessionFigures
from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.exporter.export import export
from ecotta_rt.exporter.fitting import fitting_graphs
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.machine.device import load_device

MIB = 1 << 20
BOARD = replace(load_device("raspberry-pi-zero-2w"), isa=("avx2",))


@pytest.fixture
def manifest(tiny):
    """As the tiny bundle's, but its steps of 4 frames need 300 MiB for their tensors."""
    plain = read_bundle(tiny.bundle("running")).manifest
    wide = (SessionFigures("all", 100, 250 * MIB, 300 * MIB, 0, 0),)
    graphs = tuple(replace(graph, sessions=wide) if graph.name == "step-4" else graph for graph in plain.graphs)
    return replace(plain, graphs=graphs)


def test_every_graph_of_a_bundle_has_figures(tiny):
    for normalisation in ("running", "source", "batch"):
        for graph in read_bundle(tiny.bundle(normalisation)).manifest.graphs:
            assert [session.optimisation for session in graph.sessions] == ["all", "extended"]
            assert all(session.nodes > 0 and session.arena_bytes >= session.live_bytes for session in graph.sessions)


def test_graphs_that_do_not_fit_are_left_out(manifest):
    everything = {graph.name for graph in manifest.graphs}

    assert fitting_graphs(manifest, BOARD) == everything - {"step-4"}


def test_a_bundle_may_be_left_to_learn_frame_by_frame_alone(manifest):
    left_out = ("step-1", "predict-4", "observe-4")
    only_wide = replace(manifest, graphs=tuple(g for g in manifest.graphs if g.name not in left_out))

    assert fitting_graphs(only_wide, BOARD) == {"accumulate", "update", "predict-1", "observe-1"}


def test_with_room_for_all_nothing_is_left_out(manifest):
    assert fitting_graphs(manifest, load_device("this-machine")) == {graph.name for graph in manifest.graphs}


def test_where_nothing_that_learns_fits_it_says_so(manifest):
    with pytest.raises(BudgetExceeded, match="allows 20 MiB"):
        fitting_graphs(manifest, replace(BOARD, default_limit_bytes=20 * MIB))


def test_a_bundle_for_a_device_has_what_fits_there(tiny, tmp_path):
    from ecotta_rt.method.state import initial_state, to_adapt_state

    network = tiny.network()
    with pytest.raises(BudgetExceeded):
        export(
            network,
            to_adapt_state(initial_state(network), network.digest()),
            tmp_path / "small.ecotta",
            ExportOptions(
                model="tiny",
                classes=["ant", "bee", "cat", "dog", "elk"],
                step=tiny.options("running"),
                device=replace(BOARD, default_limit_bytes=20 * MIB),
            ),
        )

    assert list(tmp_path.iterdir()) == []
