"""What is tried, and what is changed for which figures."""

from dataclasses import replace

import numpy as np
import pytest

from ecotta_rt.bench.tuning import tuning
from ecotta_rt.bench.tuning.measuring import Answers, Estimate
from ecotta_rt.bench.tuning.settings import Alternative, present_options
from ecotta_rt.bench.tuning.streams import Played
from ecotta_rt.bench.tuning.tuning import Tuning
from ecotta_rt.bundle import read_bundle
from ecotta_rt.bundle.rewriting import followed_otherwise
from ecotta_rt.options import AdaptationOptions

FRAMES = 1000
STREAMS = tuple(Played(order, np.zeros((FRAMES, 1)), np.zeros(FRAMES, np.int64)) for order in ("a", "b"))


@pytest.fixture
def tune(tiny, monkeypatch):
    """Tunes a bundle of present options, where wrong answers in a thousand are said by a function of the options."""

    def tune(errors, mirror=False, **present):
        options = AdaptationOptions(**{"statistics": "plain", "answer": "unfiltered", **present})

        def play(_, options, streams, batch, step):
            found = [np.arange(FRAMES) % 100 < errors(options) / 10 for _ in streams]
            step(FRAMES)
            return Answers(tuple(found), tuple(found), 1.0, 1.5 + (options.views == 2))

        monkeypatch.setattr(tuning, "play", play)
        bundle = followed_otherwise(read_bundle(tiny.bundle("running")), vars(options))
        return Tuning(bundle, mirror).run(STREAMS, lambda *_: None)

    return tune


def test_nothing_is_changed_where_nothing_is_better(tune):
    report = tune(lambda _: 300)

    assert report.chosen == report.present
    assert [row.setting for row in report.rows] == ["as it is", "statistics held", "answer filtered", "learning on"]
    assert not any(row.changes for row in report.rows)


def test_what_is_better_is_changed_and_two_changes_are_tried_together(tune):
    report = tune(lambda o: 300 - 50 * (o.momentum == 0) - 100 * (o.views == 2), mirror=True)

    assert (report.chosen.momentum, report.chosen.views, report.chosen.learning) == (0, 2, "off")
    last = report.rows[-1]
    assert (last.setting, last.error.points, last.gain.points) == (tuning.TOGETHER, 15, pytest.approx(15))
    assert {row.setting for row in report.rows if row.changes} == {"statistics held", "views 2"}


def test_the_temperature_is_that_of_what_was_chosen_and_none_where_the_network_guesses(tune, monkeypatch):
    def better(options):
        return 300 - 100 * (options.views == 2)

    assert tune(better, mirror=True).temperature is None, "all labels are the same: that is no better than guessing"
    monkeypatch.setattr(tuning, "_guesses", lambda *_: False)
    assert tune(better).temperature == 1.5
    assert tune(better, mirror=True).temperature == 2.5


def test_changes_that_do_not_add_up_leave_the_best_alone(tune):
    report = tune(
        lambda o: {(True, False): 250, (False, True): 200, (True, True): 290}.get((o.momentum == 0, o.views == 2), 300),
        mirror=True,
    )

    assert (report.chosen.momentum, report.chosen.views) == (report.present.momentum, 2)


@pytest.mark.parametrize(("gain", "learning"), [(0, "off"), (100, "on")])
def test_learning_that_does_not_pay_is_left_out_because_it_costs(tune, gain, learning):
    assert tune(lambda o: 300 - gain * (o.learning == "on"), learning="on").chosen.learning == learning


def test_a_gain_within_the_standard_error_changes_nothing(tiny, monkeypatch):
    found = {True: np.zeros(FRAMES, bool), False: np.zeros(FRAMES, bool)}
    found[False][:25] = True
    found[True][500:520] = True  # fewer, but all elsewhere

    def play(_, options, streams, batch, step):
        wrong = (found[options.momentum == 0],) * 2
        return Answers(wrong, wrong, 1.0)

    monkeypatch.setattr(tuning, "play", play)
    bundle = followed_otherwise(read_bundle(tiny.bundle("running")), vars(AdaptationOptions(statistics="plain")))
    report = Tuning(bundle, False).run(STREAMS, lambda *_: None)

    gain = next(row.gain for row in report.rows if row.setting == "statistics held")
    assert gain.points == pytest.approx(0.5)
    assert gain.standard_error > gain.points
    assert report.chosen == report.present


@pytest.mark.parametrize(
    ("points", "standard_error", "saves", "changes"),
    [
        (1.9, 1.0, False, False),
        (2.0, 1.0, False, True),
        (0.0, 0.0, False, False),
        (0.0, 0.5, True, True),
        (0.0, 0.6, True, False),  # it may cost more than a point
        (-0.5, 0.2, True, False),  # it costs half a point beyond doubt
        (3.0, 2.0, True, True),
        (-2.0, 5.0, True, False),
    ],
)
def test_a_change_takes_two_standard_errors(points, standard_error, saves, changes):
    other = Alternative("views", 1, saves=True) if saves else Alternative("views", 2)

    assert tuning.pays(other, Estimate(points, standard_error)) == changes


def test_noise_alone_changes_nothing_in_nearly_all_draws(tiny, monkeypatch):
    bundle = followed_otherwise(read_bundle(tiny.bundle("running")), vars(AdaptationOptions(statistics="plain")))
    changed = 0
    for seed in range(50):
        generator = np.random.default_rng(seed)

        def play(_, options, streams, batch, step, generator=generator):
            wrong = tuple(generator.random(FRAMES) < 0.3 for _ in streams)
            return Answers(wrong, wrong, 1.0)

        monkeypatch.setattr(tuning, "play", play)
        report = Tuning(bundle, True).run(STREAMS, lambda *_: None)
        changed += report.chosen != report.present

    assert changed <= 10  # of 50; at one standard error half of them


def test_too_few_frames_change_nothing(tune, monkeypatch):
    few = tuple(Played(s.order, s.frames, s.labels[: tuning.LEAST_FRAMES - 1]) for s in STREAMS)
    monkeypatch.setitem(globals(), "STREAMS", few)

    report = tune(lambda o: 300 - 100 * (o.momentum == 0))

    assert not report.enough and report.chosen == report.present and report.temperature is None
    assert not any(row.changes for row in report.rows)


@pytest.mark.parametrize(("wrong_in_a_thousand", "guesses"), [(300, False), (500, True), (800, True)])
def test_a_network_that_is_no_better_than_the_commonest_class_guesses(tune, monkeypatch, wrong_in_a_thousand, guesses):
    labels = np.arange(FRAMES) % 2
    monkeypatch.setitem(globals(), "STREAMS", tuple(Played(s.order, s.frames, labels) for s in STREAMS))

    assert tune(lambda _: wrong_in_a_thousand).guesses == guesses


def test_a_bundle_without_tables_says_how_to_get_them(tune):
    said = "\n".join(tune(lambda _: 300).not_tried)

    assert "de-classed was not tried: no class tables; prepare the bundle anew, with --data" in said
    assert "--mirror" in said


def test_a_bundle_that_says_nothing_is_taken_as_it_is_run(tiny):
    options = present_options(read_bundle(tiny.bundle("running")))

    assert (options.statistics, options.answer, options.learning) == ("plain", "unfiltered", "on")
    assert present_options(read_bundle(tiny.bundle("batch"))).learning == "on"


def test_held_statistics_can_follow_again():
    held = AdaptationOptions(momentum=0.0)

    assert Alternative("statistics", "plain").of(held).momentum == AdaptationOptions().momentum
    assert Alternative("statistics", "held").of(AdaptationOptions(momentum=0.1)) == replace(held)
