from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.adapt.channels import Moments
from ecotta_rt.adapt.places import Places
from ecotta_rt.bundle import ArrayShape, FrameSpec, GraphEntry, Manifest, StateLayout
from ecotta_rt.bundle.figures import SessionFigures, Tenant
from ecotta_rt.bundle.ports import MethodPorts
from ecotta_rt.errors import BudgetExceeded, UsageError
from ecotta_rt.machine.device import load_device
from ecotta_rt.plan.budget import Wish, alternatives, plan

MIB = 1 << 20


def session(optimisation="all", live=4, arena=6, copied=4, mapped=7, nodes=900):
    tenants = (Tenant("Conv w, 1x32x32x32", live * MIB // 2),)
    return SessionFigures(optimisation, nodes, live * MIB, arena * MIB, copied * MIB, mapped * MIB, tenants)


def graph(name, kind="step", batch=1, favours="memory", sessions=None):
    sessions = (session(), session("extended", copied=0, mapped=11)) if sessions is None else sessions
    return GraphEntry(name, kind, batch, {"favours": favours}, 900, 0, 0, (), (), 1, "", sessions)


def manifest(*graphs, classes=10):
    return Manifest(
        made_with={},
        model="m",
        network_digest="d",
        classes=tuple(map(str, range(classes))),
        parts=4,
        frame=FrameSpec(3, 32, 32),
        normalisation="running",
        options={},
        layout=StateLayout((ArrayShape("w", (100_000,)),), (ArrayShape("m", (6_000,)),)),
        graphs=graphs,
        weights=(),
        weights_bytes=0,
        weights_sha256="",
        state_sha256="",
    )


ONE = manifest(graph("step-1"), graph("predict-1", "predict"), graph("observe-1", "observe"))
LARGE = (
    session(live=130, arena=190, copied=17, mapped=0),
    session("extended", live=170, arena=235, copied=0, mapped=17),
)
MANY = manifest(
    graph("step-1"),
    graph("step-1-fast", favours="time", sessions=(session(arena=10, copied=9, mapped=9),)),
    graph("step-64", batch=64, sessions=LARGE),
    graph("accumulate", "accumulate"),
    graph("update", "update", sessions=(session(nodes=40, live=1, arena=1), session("extended", live=1, arena=1))),
    graph("predict-1", "predict"),
    graph("observe-1", "observe"),
)
PI = load_device("raspberry-pi-4-2gb")
BOARD = replace(PI, isa=("avx2", "fma"))


def test_the_peak_is_the_sum_of_the_parts():
    way = plan(ONE, BOARD)

    assert way.run_peak_bytes == sum(part.bytes for part in way.parts)
    names = [part.name for part in way.parts]
    assert names[:2] == ["interpreter", "onnxruntime"]
    assert {"sessions", "weights, mapped", "weights, laid out anew", "live tensors", "state", "frames", "margin"} <= {
        *names
    }


def test_state_is_held_twice():
    """Parameters, momentum and statistics, four bytes each; one frame after the other, two sums of gradients too.

    And what was seen in each frame: of one frame after the other, once more together.
    """
    state = {
        way.frame_by_frame: part.bytes
        for way in alternatives(MANY, BOARD, Wish(batch=64))
        for part in way.parts
        if part.name == "state"
    }

    seen = {False: 64 * 6_000, True: (1 + 2 * 64) * 6_000}
    assert state == {False: 4 * (2 * 206_000 + seen[False]), True: 4 * (2 * 406_000 + seen[True])}


@pytest.mark.parametrize("gradients", [1, 3])
def test_frame_by_frame_as_many_sums_are_held_as_the_method_declares_gradients(gradients):
    names = tuple(f"gradient_{i}" for i in range(gradients))
    declared = replace(MANY, method=replace(MANY.ports, name="another", gradients=names))

    way = plan(declared, BOARD, Wish(batch=64, frame_by_frame=True))

    seen = (1 + 2 * 64) * 6_000
    assert {part.name: part.bytes for part in way.parts}["state"] == 4 * (2 * (206_000 + gradients * 100_000) + seen)


def test_answering_alone_writes_nothing_but_statistics():
    (state,) = (part.bytes for part in plan(MANY, BOARD, Wish(adapt=False)).parts if part.name == "state")

    assert state == 4 * (206_000 + 6_000 + 6_000), "the next ones, and what was seen"


def test_tables_are_held_as_floats_however_they_are_stored():
    """Where a bundle has some."""
    tables = (ArrayShape("mix", (10, 100), "float16"), ArrayShape("rows", (7,)))
    ways = (plan(ONE, BOARD), plan(replace(ONE, tables=tables), BOARD))

    without, held = ({part.name: part.bytes for part in way.parts} for way in ways)

    assert "tables" not in without
    assert held["tables"] == 4 * (1_000 + 7)


@pytest.mark.parametrize("capacity", [0, 8, 256])
def test_the_memory_of_places_is_planned_as_it_is_held(capacity):
    tables, adaptation = (ArrayShape("key_centre", (64,)), ArrayShape("key_norm", (1,))), {"places": capacity}
    source = Moments(np.zeros(MANY.layout.statistic_count // 2, np.float32), np.ones(3_000, np.float32))

    way = plan(replace(MANY, tables=tables, adaptation=adaptation), BOARD, Wish(adapt=False))

    held = sum(array.nbytes for array in Places(source, 64, capacity).arrays().values())
    planned = {part.name: part.bytes for part in way.parts}["places"]
    assert planned == pytest.approx(held, rel=0.01)


def test_a_phone_has_no_interpreter():
    parts = {part.name: part.bytes for part in plan(ONE, load_device("pixel")).parts}

    assert "interpreter" not in parts


def test_loading_counts_weights_twice_while_they_are_laid_out_anew():
    """No tensors are alive yet, but 150 MiB of weights are, and once more."""
    heavy = manifest(graph("step-1", sessions=(session(copied=150, mapped=0, live=1, arena=1),)))

    way = plan(heavy, BOARD)

    assert way.peak_bytes == way.load_peak_bytes > way.run_peak_bytes + 120 * MIB


@pytest.mark.parametrize(
    ("batch", "limit_mib", "expected"),
    [
        (None, 400, ("step-1-fast",)),
        (None, 95, ("step-1",)),
        (64, 400, ("step-64",)),
        (64, 280, ("step-64",)),
        (64, 150, ("accumulate", "update")),
        (7, 400, ("accumulate", "update")),
    ],
)
def test_the_fastest_way_that_fits_is_chosen(batch, limit_mib, expected):
    assert plan(MANY, BOARD, Wish(batch=batch, limit_bytes=limit_mib * MIB)).graphs == expected


def test_a_tight_limit_chooses_memory_before_time():
    loose, tight = (plan(MANY, BOARD, Wish(batch=64, limit_bytes=mib * MIB)) for mib in (400, 280))

    assert (loose.memory, tight.memory) == ("arena", "returning")


@pytest.mark.parametrize(("cores", "asked", "threads"), [(4, None, 2), (1, None, 1), (4, 3, 3), (2, 3, 2)])
def test_threads_never_exceed_the_cores(cores, asked, threads):
    assert plan(ONE, replace(BOARD, cores=cores), Wish(threads=asked)).threads == threads


def test_on_arm_only_graphs_without_the_blocked_layout_are_planned():
    assert {way.optimisation for way in alternatives(MANY, PI)} == {"extended"}


def test_what_is_asked_for_is_kept_to():
    assert plan(MANY, BOARD, Wish(fast=False)).graphs == ("step-1",)
    assert plan(MANY, BOARD, Wish(batch=64, frame_by_frame=True)).graphs == ("accumulate", "update")
    assert plan(MANY, BOARD, Wish(session_options={"memory": "returning", "threads": 1})).memory == "returning"


def test_what_cannot_be_had_together_is_a_usage_error():
    with pytest.raises(UsageError, match="no graph for what was asked for together"):
        plan(MANY, BOARD, Wish(batch=64, fast=True))


def test_answering_alone_uses_the_graph_that_answers_and_observes():
    assert plan(MANY, BOARD, Wish(adapt=False)).graphs == ("observe-1",)
    assert plan(MANY, BOARD, Wish(adapt=False, fast=True)).graphs == ("observe-1",), "steps alone come in a fast kind"
    tracking = MethodPorts.of_ecotta(4, "running", "tracked")
    assert plan(replace(MANY, method=tracking), BOARD, Wish(adapt=False)).graphs == ("predict-1",), "of version 4"


def test_many_frames_can_be_answered_one_after_the_other():
    way = plan(MANY, BOARD, Wish(adapt=False, batch=64))

    assert (way.graphs, way.batch, way.frame_by_frame) == (("observe-1",), 64, True)
    assert plan(MANY, BOARD, Wish(adapt=False, frame_by_frame=True)).batch == 1


@pytest.mark.parametrize("graphs", [MANY.graphs, MANY.graphs[3:]], ids=["beside steps", "alone"])
def test_frame_by_frame_needs_no_number_of_frames(graphs):
    """A bundle that was made for a small device may have no step left."""
    way = plan(replace(MANY, graphs=graphs), BOARD, Wish(frame_by_frame=True))

    assert (way.graphs, way.batch) == (("accumulate", "update"), 1)


def test_without_steps_it_learns_frame_by_frame_unasked():
    assert plan(replace(MANY, graphs=MANY.graphs[3:]), BOARD).graphs == ("accumulate", "update")


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"batch": 0}, "batch=0"),
        ({"threads": 0}, "threads=0"),
        ({"session_options": {"threads": -1}}, "threads=-1"),
    ],
)
def test_numbers_below_one_are_refused(wishes, said):
    with pytest.raises(UsageError, match=f"{said}: give 1 or more"):
        plan(MANY, BOARD, Wish(**wishes))


def test_what_cannot_fit_is_refused_with_need_limit_and_largest_tenant():
    with pytest.raises(BudgetExceeded, match=r"allows 40 MiB.*step-1.*needs \d+ MiB.*largest part") as caught:
        plan(ONE, BOARD, Wish(limit_bytes=40 * MIB))

    assert caught.value.exit_code == 3
    assert caught.value.limit_bytes == 40 * MIB < caught.value.need_bytes
    assert caught.value.largest_tenant


@pytest.mark.parametrize(
    ("batch", "frame_by_frame", "advice"),
    [
        (1, None, "Choose a smaller network"),
        (64, True, "Choose a smaller network"),
        (64, False, "Choose a smaller batch, frame-by-frame graphs or a smaller network"),
    ],
)
def test_a_refusal_advises_nothing_that_is_done_already(batch, frame_by_frame, advice):
    with pytest.raises(BudgetExceeded, match=rf"\. {advice};"):
        plan(MANY, BOARD, Wish(batch=batch, frame_by_frame=frame_by_frame, limit_bytes=62 * MIB))


def test_where_no_network_fits_a_smaller_one_is_not_advised():
    with pytest.raises(BudgetExceeded, match="MiB of it are interpreter and onnxruntime: no network fits") as caught:
        plan(ONE, BOARD, Wish(limit_bytes=40 * MIB))

    assert "smaller" not in str(caught.value)


def test_where_tensors_are_the_largest_part_the_largest_of_them_is_named():
    with pytest.raises(BudgetExceeded, match=r"live tensors \(Conv w, 1x32x32x32: \d+.\d MiB\)"):
        plan(manifest(graph("step-64", batch=64, sessions=LARGE)), BOARD, Wish(limit_bytes=40 * MIB))


def test_an_unknown_batch_is_named_with_those_there_are():
    with pytest.raises(UsageError, match="no step for 3 frames; it has 1"):
        plan(ONE, BOARD, Wish(batch=3))


def test_a_bundle_without_figures_cannot_be_planned():
    with pytest.raises(UsageError, match="made without figures"):
        plan(manifest(graph("step-1", sessions=())), BOARD)


def test_a_way_needs_the_figures_of_all_its_graphs():
    half = manifest(graph("accumulate", "accumulate"), graph("update", "update", sessions=(session(),)))

    assert {way.optimisation for way in alternatives(half, BOARD, Wish(batch=8))} == {"all"}


def test_the_json_has_all_that_a_user_needs_to_run_it():
    plain = plan(MANY, BOARD, Wish(batch=64)).as_json()

    assert {"device", "fits", "limit_bytes", "peak_bytes", "parts", "step", "session_options"} <= plain.keys()
    assert plain["session_options"].keys() == {"threads", "optimisation", "memory"}
    assert plain["step"] == {"graphs": ["step-64"], "batch": 64, "frame_by_frame": False, "fast": False}
    assert sum(plain["parts"].values()) == plain["run_peak_bytes"]
    assert plain["largest_tenant"] == "live tensors (Conv w, 1x32x32x32: 65.0 MiB)"


@given(st.integers(60, 500), st.integers(60, 500), st.sampled_from([None, 1, 64, 100]))
def test_more_memory_never_chooses_a_slower_way(one, other, batch):
    """And what was chosen fits."""
    less, more = sorted((one * MIB, other * MIB))
    order = [(way.graphs, way.optimisation, way.memory) for way in alternatives(MANY, BOARD, Wish(batch=batch))]
    places = []
    for limit in (less, more):
        try:
            way = plan(MANY, BOARD, Wish(batch=batch, limit_bytes=limit))
        except BudgetExceeded:
            places.append(len(order))
        else:
            assert way.peak_bytes <= limit
            places.append(order.index((way.graphs, way.optimisation, way.memory)))
    assert places[1] <= places[0]
