from dataclasses import replace

import numpy as np
import pytest
import torch

from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.class_tables import ClassTables, measure_classes
from ecotta_rt.adapt.places import Key
from ecotta_rt.bundle import read_bundle
from ecotta_rt.bundle.layout import StateLayout
from ecotta_rt.exporter.export import compile_graphs
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.method.state import initial_state, to_adapt_state, to_step_state
from ecotta_rt.method.step import Step
from ecotta_rt.options import AdaptationOptions
from ecotta_rt.prepare import recipe
from ecotta_rt.prepare.recipe import following, with_class_tables
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.state import AdaptState

CLASSES = 5


@pytest.fixture
def warmed(tiny):
    """A network, its state with class tables, and the frames and labels they were made of."""
    network, frames = tiny.network(), tiny.frames(60)
    labels = np.arange(60) % CLASSES
    state = to_adapt_state(initial_state(network), network.digest())
    return network, with_class_tables(network, state, frames, labels), frames, labels


def channels_of(network, state):
    arrays = StateLayout.of(state, network.held).statistics
    return Channels.of([(array.name, array.count) for array in arrays])


def test_the_tables_are_those_of_what_the_step_sees_in_labelled_frames(tiny, warmed):
    network, state, frames, labels = warmed
    floats = tiny.floats(60)
    seen = Step(network, tiny.options("running")).observe(to_step_state(network, state), torch.from_numpy(floats))[1]
    one_hot = np.eye(CLASSES, dtype=np.float32)[labels]

    expected = measure_classes([(seen.numpy(), one_hot)], channels_of(network, state))

    stored = {name.removeprefix("tables."): array for name, array in state.adaptation.items()}
    assert Key.from_arrays(stored, channels_of(network, state)).norm == "block1.bn1"
    for name, array in vars(ClassTables.from_arrays(stored, CLASSES, len(expected.share))).items():
        assert array == pytest.approx(getattr(expected, name), abs=1e-4), name
    soft = with_class_tables(network, state, frames, one_hot)
    assert np.array_equal(soft.adaptation["tables.share"], state.adaptation["tables.share"])


def test_a_bundle_holds_the_norms_that_see_classes_and_follows_the_others_de_classed(
    tiny, warmed, tmp_path, monkeypatch
):
    network, state, *_ = warmed
    channels = channels_of(network, state)
    shares = np.split(state.adaptation["tables.share"], np.cumsum(channels.sizes)[:-1])
    by_norm = {norm: share.mean() for norm, share in zip(channels.norms, shares, strict=True)}
    middle = float(np.mean(sorted(by_norm.values())[3:5]))  # between two of them
    monkeypatch.setattr(recipe, "HELD_FROM", middle)
    options = ExportOptions(model="tiny", classes=[*"abcde"], batches=(1,), step=tiny.options("running"))

    found = following(network, state, options.step)
    path = tmp_path / "tiny.ecotta"
    compile_graphs(network, found.state, path, options).write(path, found.state, found.adaptation, found.tables)

    first = next(iter(network.norms()))
    held = {norm for norm, share in by_norm.items() if share >= middle and norm != first}
    manifest = read_bundle(path).manifest
    assert {array.name.rpartition(".")[0] for array in manifest.layout.held} == held
    assert AdaptationOptions.of(manifest.adaptation) == AdaptationOptions(learning="auto")
    runtime = Runtime.load(path)
    assert runtime.graph is None, "the network was warmed up: learning does not pay"
    assert runtime.adaptation.recipe.followed.tables.classes == CLASSES
    before = runtime.adaptation.statistics.copy()
    assert [runtime(frame[None]).why for frame in tiny.frames(8)] == ["off"] * 8
    assert not np.array_equal(runtime.adaptation.statistics, before)


def test_tables_from_a_file_are_of_the_same_norms(tiny, warmed, tmp_path, monkeypatch):
    network, state, *_ = warmed
    monkeypatch.setattr(recipe, "HELD_FROM", 0.3)
    state.save(tmp_path / "warmed.safetensors")
    loaded = AdaptState.load(tmp_path / "warmed.safetensors")

    one = following(network, state, tiny.options("running"))
    other = following(tiny.network(), loaded, tiny.options("running"))

    assert list(loaded.statistics) != list(state.statistics), "a file has an order of its own"
    assert one.tables.keys() == other.tables.keys()
    assert all(np.array_equal(array, other.tables[name]) for name, array in one.tables.items())
    assert one.state.network_digest == other.state.network_digest


def test_the_key_of_places_is_that_of_the_first_norm(tiny, warmed):
    network, state, *_ = warmed
    first = channels_of(network, state).norms[0]

    found = following(network, state, tiny.options("running"))

    assert first == "block1.bn1"
    channels = Channels.of([(a.name, a.count) for a in StateLayout.of(found.state, network.held).statistics])
    key = Key.from_arrays(found.tables, channels)
    assert (key is None) == (first in network.held)
    assert key is None or key.norm == first


def test_where_nothing_was_warmed_up_statistics_follow_by_the_plain_rule(tiny):
    network = tiny.network()
    state = to_adapt_state(initial_state(network), network.digest())

    identity = replace(state, metadata={"warm_up": "none: the groups start as an identity"})

    found = following(network, identity, tiny.options("running"))

    assert AdaptationOptions.of(found.adaptation) == AdaptationOptions(statistics="plain", learning="auto")
    assert found.tables == {}
    assert found.state.network_digest == state.network_digest
    assert following(network, state, tiny.options("running")).adaptation == {}, "of before there were tables"


def test_where_no_statistics_follow_a_bundle_has_no_recipe(tiny, warmed):
    network, state, *_ = warmed

    found = following(network, state, tiny.options("source"))

    assert (found.adaptation, found.tables, found.state.adaptation) == ({}, {}, {})
    assert network.momenta == {}
