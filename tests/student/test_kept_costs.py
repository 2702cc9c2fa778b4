"""What widths cost, kept beside a bank: comes back for any device, is left aside for anything else, misleads nobody."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotta_rt.bundle import FrameSpec, read_bundle
from ecotta_rt.errors import InputFileError
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.machine.device import load_device
from ecotta_rt.plan.budget import Wish
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.student.slimda import kept_costs as module
from ecotta_rt.student.slimda.bank import Bank
from ecotta_rt.student.slimda.device_cost import Bundles
from ecotta_rt.student.slimda.kept_costs import costs_path, keep_costs, kept_costs
from ecotta_rt.student.slimmable.slimmable import Slimmable
from ecotta_rt.student.slimmable.widths import at_ratio

FRAME = FrameSpec(3, 8, 8, "stretch")


@pytest.fixture(scope="module")
def bundles():
    torch.manual_seed(0)
    slimmable = Slimmable.for_frame(build_network("resnet-8", classes=3), FRAME)
    frames = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    bank = Bank(slimmable, "resnet-8", ("a", "b", "c"), FRAME, 0.25, frames)
    options = ExportOptions("resnet-8", classes=bank.classes, frame=FRAME, batches=(2,))
    return Bundles(bank, load_device("raspberry-pi-zero-2w"), Wish(batch=2, adapt=True), options, 1, 3)


@pytest.fixture(scope="module")
def measured(bundles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    groups = bundles.bank.slimmable.groups
    return [bundles.measure(at_ratio(groups, ratio), folder / str(ratio)) for ratio in (1.0, 0.25)]


@pytest.fixture(scope="module")
def text(bundles, measured, tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "costs.json"
    keep_costs(path, bundles, measured)
    return path.read_text()


def test_what_is_measured_is_planned_as_the_whole_bundle_is(bundles, measured, tmp_path):
    whole = bundles.make(measured[1].widths, tmp_path / "whole", math.inf)

    kinds = [{graph.kind for graph in one.manifest.graphs} for one in (measured[1], whole)]
    assert kinds == [{"step"}, {"step", "predict", "observe"}]
    assert measured[1].plan == whole.plan
    assert whole.cost.ms > 0 and measured[1].cost.ms > 0 and measured[1].bundle is None
    assert read_bundle(whole.bundle).manifest == whole.manifest


def test_of_a_width_that_does_not_fit_no_more_is_exported(bundles, measured, tmp_path, monkeypatch):
    small = replace(bundles, wish=replace(bundles.wish, limit_bytes=1 << 20))
    one = measured[1]
    monkeypatch.setattr(Bundles, "_learning", lambda self, *_, **__: self.planned(one.widths, one.manifest, 3.0))
    monkeypatch.setattr(Bundles, "_exported", None)

    refused = small.make(one.widths, tmp_path / "refused", math.inf)
    slow = bundles.make(one.widths, tmp_path / "slow", 2.0)

    assert refused.bundle is None and not refused.plan.fits
    assert slow.bundle is None and slow.plan.fits
    assert refused.cost.peak_bytes == slow.cost.peak_bytes == one.cost.peak_bytes


def test_what_is_kept_is_planned_for_any_device(bundles, measured, text, tmp_path):
    path = costs_path(tmp_path / "bank.safetensors")
    path.write_text(text)
    other = replace(bundles, device=load_device("pixel"))

    assert path.name == "bank.safetensors.costs.json"
    assert kept_costs(path, bundles) == measured
    found = kept_costs(path, other)
    assert [one.cost.ms for one in found] == [one.cost.ms for one in measured]
    assert [one.plan.device for one in found] == ["pixel", "pixel"]
    assert found[0].plan == other.way(measured[0].manifest)


def test_what_is_kept_of_something_else_is_left_aside(bundles, text, tmp_path):
    path = tmp_path / "costs.json"
    path.write_text(text)

    assert kept_costs(tmp_path / "none.json", bundles) == []
    assert kept_costs(path, replace(bundles, parts=2)) == []
    assert kept_costs(path, replace(bundles, wish=Wish(batch=4, adapt=True))) == []
    torch.manual_seed(1)
    other = Slimmable.for_frame(build_network("resnet-8", classes=3), FRAME)
    assert kept_costs(path, replace(bundles, bank=replace(bundles.bank, slimmable=other))) == []


def test_a_time_that_was_taken_by_other_code_is_left_aside(bundles, text, tmp_path, monkeypatch):
    path = tmp_path / "costs.json"
    path.write_text(text)

    assert kept_costs(path, bundles)
    monkeypatch.setattr(module, "_TIMED_BY", module._TIMED_BY[1:])
    assert kept_costs(path, bundles) == []


def test_the_newest_are_kept(bundles, measured, tmp_path):
    path = tmp_path / "costs.json"

    keep_costs(path, bundles, [measured[0]] * 70 + [measured[1]])

    found = kept_costs(path, bundles)
    assert len(found) == 64 and found[-1] == measured[1]


def test_a_file_that_cannot_be_read_is_told(bundles, text, tmp_path, monkeypatch):
    path = tmp_path / "costs.json"
    path.write_text(text)

    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(InputFileError, match="cannot be read: Permission denied"):
        kept_costs(path, bundles)


def changed(text, **fields):
    return json.dumps({**json.loads(text), **fields})


def first_width(text, **fields):
    widths = json.loads(text)["widths"]
    return changed(text, widths=[{**widths[0], **fields}])


@pytest.mark.parametrize(
    ("hostile", "sentence"),
    [
        (lambda text: text[:-20], "not JSON"),
        (lambda text: "[]", "no JSON object|expected an object|object"),
        (lambda text: changed(text, costs="2"), "costs"),
        (lambda text: changed(text, more=1), "more"),
        (lambda text: changed(text, of=3), "of"),
        (lambda text: changed(text, widths={}), "widths"),
        (lambda text: first_width(text, ms=0), "ms"),
        (lambda text: first_width(text, ms=1e30), "ms"),
        (lambda text: first_width(text, ms=True), "ms"),
        (lambda text: first_width(text, manifest="{}"), "manifest"),
        (lambda text: first_width(text, manifest="x"), "manifest"),
        (lambda text: first_width(text, channels={"conv1": 4}), "channels that this bank has not"),
        (
            lambda text: first_width(text, channels=dict.fromkeys(json.loads(text)["widths"][0]["channels"], 10**6)),
            "channels that",
        ),
        (
            lambda text: first_width(text, channels=dict.fromkeys(json.loads(text)["widths"][0]["channels"], 0)),
            "channels",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_told(bundles, text, tmp_path, hostile, sentence):
    path = tmp_path / "costs.json"
    path.write_text(hostile(text))

    with pytest.raises(InputFileError, match=sentence) as caught:
        kept_costs(path, bundles)
    assert len(str(caught.value)) < 1000


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_plans(bundles, text, tmp_path, data):
    """Whatever bytes are changed: what comes back has this bank's channels and a plan, or it is refused."""
    damaged = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "costs.json"
    path.write_bytes(bytes(damaged))

    try:
        found = kept_costs(path, bundles)
    except InputFileError:
        return
    assert all(set(one.widths) == set(bundles.bank.slimmable.groups.groups) for one in found)
    assert all(one.cost.peak_bytes > 0 and one.cost.ms > 0 for one in found)
