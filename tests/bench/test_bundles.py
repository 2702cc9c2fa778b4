"""Which bundle a run takes, and when one has to be made anew."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ecotta_rt.bench import bundles
from ecotta_rt.bench.adaptation import ADAPTATION, step_options
from ecotta_rt.bench.bundles import (
    BundleOrder,
    ForwardOrder,
    cache_folder,
    check_bundle,
    find_bundle,
    normalisation_of,
    note_on_code,
)
from ecotta_rt.bundle import read_bundle
from ecotta_rt.errors import InputFileError, Unavailable, UsageError
from ecotta_rt.options import StepOptions

NAME = "net.ecotta-k4.running.ecotta"


@pytest.fixture
def order(small_network, tmp_path, monkeypatch) -> BundleOrder:
    """An order whose files lie in a folder of their own, with an empty cache."""
    monkeypatch.setenv("ECOTTA_CACHE", str(tmp_path / "cache"))
    networks = tmp_path / "assets" / "networks"
    networks.mkdir(parents=True)
    for file in (small_network.network, small_network.warmed):
        shutil.copy(file, networks)
    return replace(
        small_network.order,
        network=str(networks / small_network.network.name),
        warmed=str(networks / small_network.warmed.name),
    )


@pytest.mark.parametrize("folder", ["networks", "bundles"])
def test_a_bundle_beside_the_network_or_in_bundles_is_found(order, small_network, folder):
    place = Path(order.network).parent.parent / folder
    place.mkdir(exist_ok=True)
    shutil.copy(small_network.bundle, place / NAME)

    assert find_bundle(order, print) == place / NAME


def test_one_that_has_not_what_is_wanted_is_passed_over(order, small_network):
    shutil.copy(small_network.bundle, Path(order.network).with_name(NAME))
    said = []

    assert find_bundle(replace(order, batches=(1, 2)), said.append) is None
    assert "passed over: it has no step for 1 frames" in said[0]


def test_one_that_other_code_made_is_passed_over_and_that_is_said(order, small_network, monkeypatch):
    shutil.copy(small_network.bundle, Path(order.network).with_name(NAME))
    monkeypatch.setattr(bundles, "code_digest", lambda: "other code")
    said = []

    assert find_bundle(order, said.append) is None
    assert "passed over: it was made by other code" in said[0]


def test_a_named_bundle_of_other_code_is_noted(small_network, monkeypatch):
    assert note_on_code(small_network.bundle) is None

    monkeypatch.setattr(bundles, "code_digest", lambda: "other code")
    assert "was made by other code" in note_on_code(small_network.bundle)


def test_a_named_bundle_that_adapts_otherwise_is_refused(small_network, monkeypatch, subtests):
    for option in ADAPTATION:
        with subtests.test(option=option):
            monkeypatch.setattr(bundles, "ADAPTATION", {**ADAPTATION, option: "another"})

            with pytest.raises(UsageError, match=f"adapts otherwise.*: {option} {ADAPTATION[option]} where .* another"):
                check_bundle(small_network.bundle, small_network.order)


def test_the_bench_adapts_by_the_papers_protocol_at_a_rate_for_64_frames():
    expected = StepOptions(normalisation="running", frozen_gradient="constant", frame_by_frame=True, lr_batch=64)

    assert step_options("running", "constant", frame_by_frame=True) == expected


def test_a_hyperparameter_that_was_chosen_reaches_the_step():
    options = step_options("batch", "exact", hyperparameters={"l1_weight": 0.1, "lr": 0.01})

    assert (options.l1_weight, options.lr, options.entropy_margin) == (0.1, 0.01, 0.4)


def test_meta_groups_that_cannot_be_read_are_no_reason_to_make_a_bundle(order, small_network):
    shutil.copy(small_network.bundle, Path(order.network).with_name(NAME))
    Path(order.warmed).write_bytes(b"damaged")

    with pytest.raises(InputFileError, match=r"ecotta-k4\.safetensors"):
        find_bundle(order, print)


def test_a_damaged_one_is_passed_over(order):
    Path(order.network).with_name(NAME).write_bytes(b"no bundle")

    assert find_bundle(order, print) is None


def test_what_was_made_for_an_order_is_found_in_the_cache(order, small_network):
    order.cached_path().parent.mkdir()
    shutil.copy(small_network.bundle, order.cached_path())

    assert find_bundle(order, print) == order.cached_path()
    assert find_bundle(replace(order, fast=True), print) is None


def test_the_cache_goes_by_what_a_bundle_is_made_from(order, small_network, monkeypatch):
    before = order.cached_path()
    elsewhere = replace(order, network=str(small_network.network), warmed=str(small_network.warmed))

    assert elsewhere.cached_path() == before
    assert replace(order, batches=(1,)).cached_path() != before

    Path(order.network).write_bytes(b"other weights")
    assert order.cached_path() != before

    monkeypatch.setattr(bundles, "_code_digest", lambda: "other code")
    assert elsewhere.cached_path() != before


def test_constant_statistics_make_another_bundle_in_batch_mode_alone(order):
    batch = replace(order, normalisation="batch")

    assert batch.mode == "batch"
    assert replace(batch, gradient="constant").mode == "batch-constant"
    assert replace(order, gradient="constant").mode == "running"


def test_the_inference_only_graph_is_kept_by_network_and_batch(order):
    one, two = (ForwardOrder(order.network, batch).path() for batch in (1, 2))

    assert one != two
    assert one.name.startswith("net.forward-1.")
    assert one.parent == cache_folder()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalisation": "batch"}, "its normalisation is running.*add --normalisation running"),
        ({"batches": (64,)}, r"no step for 64 frames, only for \[2\]; change --batch"),
    ],
)
def test_a_named_bundle_that_does_not_fit_is_refused_with_what_to_change(small_network, change, message):
    with pytest.raises(UsageError, match=f"--bundle .*{message}"):
        check_bundle(small_network.bundle, replace(small_network.order, **change))


def test_a_named_bundle_of_another_state_is_refused(order, small_network):
    from ecotta_rt.state import AdaptState

    state = AdaptState.load(order.warmed)
    replace(state, metadata={"warmed": "longer"}).save(order.warmed)

    with pytest.raises(UsageError, match="it was not made from"):
        check_bundle(small_network.bundle, order)


def test_a_named_bundle_that_fits_is_taken_and_tells_its_normalisation(small_network):
    check_bundle(small_network.bundle, small_network.order)

    assert normalisation_of(small_network.bundle) == "running"


def test_a_file_that_is_no_bundle_is_an_input_error(small_network):
    with pytest.raises(InputFileError, match="not a bundle"):
        check_bundle(small_network.network, small_network.order)


def test_the_cache_is_where_the_user_says_else_where_caches_are(monkeypatch, tmp_path):
    monkeypatch.setenv("ECOTTA_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path

    monkeypatch.delenv("ECOTTA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "ecotta_rt"


def test_a_user_without_a_home_is_told_which_variable_to_set(monkeypatch):
    monkeypatch.delenv("ECOTTA_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user number that nobody knows

    with pytest.raises(UsageError, match="no home folder .* set ECOTTA_CACHE to a folder"):
        cache_folder()


def test_a_bundle_with_a_rule_of_its_own_is_found_where_prepare_wrote_it_and_never_made(order, small_network):
    order = replace(order, follows=True)
    said = []
    shutil.copy(small_network.bundle, Path(order.network).with_suffix(".ecotta"))

    with pytest.raises(Unavailable, match="ecotta prepare NETWORK --data SOURCE"):
        find_bundle(order, said.append)

    assert "passed over: it has no rule by which statistics follow the stream" in said[0]


def test_a_bundle_that_has_a_rule_is_taken_as_it_is(small_network):
    manifest = read_bundle(small_network.bundle).manifest
    ruled = replace(manifest, adaptation={"statistics": "de-classed"}, options={**manifest.options, "lr": 7.0})

    assert "adapts otherwise" in bundles._lacks(ruled, small_network.order, manifest.state_sha256)
    found = bundles._lacks(ruled, replace(small_network.order, follows=True), manifest.state_sha256)
    assert found is None
