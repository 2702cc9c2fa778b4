import numpy as np
import pytest

from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.class_tables import ClassTables, between_class_share, measure_classes
from ecotta_rt.errors import UsageError

CHANNELS = Channels.of([("a.mean", 3), ("a.variance", 3), ("b.mean", 2), ("b.variance", 2)])


def frames_of(classes=4, count=60, seed=0, channels=CHANNELS):
    """What is seen `[N, S]` and the classes `[N]`; norm b tells the classes apart, norm a hardly does."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    seen = rng.normal(size=(count, 2 * channels.count))
    seen[:, channels.means[3:]] += 3 * rng.normal(size=(classes, channels.count - 3))[labels]
    seen[:, channels.variances] = rng.uniform(0.5, 2, (count, channels.count))
    return seen.astype(np.float32), labels


def one_hot(labels, classes):
    return np.eye(classes, dtype=np.float32)[labels]


def by_definition(seen, labels, classes):
    b, s = seen[:, CHANNELS.means].astype(float), seen[:, CHANNELS.variances].astype(float)
    m_c = np.array([b[labels == c].mean(0) for c in range(classes)])
    o = m_c - m_c.mean(0)
    v_c = np.array([(s[labels == c] + (b[labels == c] - m_c[c]) ** 2).mean(0) for c in range(classes)])
    v = (v_c + o**2).mean(0)
    within = np.array([((b[labels == c] - m_c[c]) ** 2).mean(0) for c in range(classes)]).mean(0)
    return o, (v_c + o**2) / v, v, np.sqrt(within + (o**2).mean(0))


def test_the_tables_of_labelled_frames_are_those_of_the_definition():
    seen, labels = frames_of()
    offsets, spreads, variance, fluctuation = by_definition(seen, labels, 4)

    tables = measure_classes([(seen[:7], one_hot(labels[:7], 4)), (seen[7:], one_hot(labels[7:], 4))], CHANNELS)

    for c, certain in enumerate(np.eye(4, dtype=np.float32)):
        assert tables.offset(certain) == pytest.approx(offsets[c], abs=1e-5)
        assert tables.spread(certain) == pytest.approx(spreads[c], rel=1e-4)
    half = np.array([0.5, 0.5, 0, 0], np.float32)
    assert tables.offset(half) == pytest.approx((offsets[0] + offsets[1]) / 2, abs=1e-5)
    assert tables.deviation == pytest.approx(np.sqrt(variance), rel=1e-5)
    assert tables.fluctuation == pytest.approx(fluctuation, rel=1e-4)


def test_the_classes_cancel_out_and_their_mean_spread_is_one():
    seen, labels = frames_of()
    tables = measure_classes([(seen, one_hot(labels, 4))], CHANNELS)
    evenly = np.full(4, 0.25, np.float32)

    assert tables.offset(evenly) == pytest.approx(0, abs=1e-5)
    assert tables.spread(evenly) == pytest.approx(1, abs=1e-5)


def test_a_norm_that_sees_classes_has_the_larger_share():
    seen, labels = frames_of(count=400)

    share = between_class_share(measure_classes([(seen, one_hot(labels, 4))], CHANNELS), CHANNELS)

    assert share["a"] < 0.05 < 0.5 < share["b"] < 1


def test_a_product_of_few_rows_comes_near_where_there_are_many_classes():
    many = Channels.of([("a.mean", 90), ("a.variance", 90)])
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 40
    kinds = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 90))  # 40 classes in 3 dimensions
    seen = np.concatenate([kinds[labels], np.full((400, 90), 0.5)], axis=1).astype(np.float32)

    whole = measure_classes([(seen, one_hot(labels, 40))], many, rank=40)
    few = measure_classes([(seen, one_hot(labels, 40))], many, rank=3)

    assert few.offset_rows.shape == (3, 90)
    for certain in np.eye(40, dtype=np.float32):
        assert few.offset(certain) == pytest.approx(whole.offset(certain), abs=1e-4)
    assert measure_classes([(seen, one_hot(labels, 40))], many).offset_mix.shape == (40, 40)


def test_a_class_without_frames_is_taken_for_an_average_one():
    seen, labels = frames_of(classes=3)

    tables = measure_classes([(seen, one_hot(labels, 5))], CHANNELS)

    never = np.eye(5, dtype=np.float32)[4]
    assert tables.offset(never) == pytest.approx(0, abs=1e-6)
    assert tables.spread(never) == pytest.approx(1)
    assert tables.offset(one_hot([0], 5)[0]) == pytest.approx(by_definition(seen, labels, 3)[0][0], abs=1e-5)


def test_tables_are_stored_in_few_bytes_and_read_again():
    seen, labels = frames_of()
    tables = measure_classes([(seen, one_hot(labels, 4))], CHANNELS)

    again = ClassTables.from_arrays(tables.arrays(), 4, 5)

    certain = np.eye(4, dtype=np.float32)[2]
    assert again.offset(certain) == pytest.approx(tables.offset(certain), rel=2e-3, abs=2e-3)
    assert again.spread(certain) == pytest.approx(tables.spread(certain), rel=2e-3)
    assert tables.arrays()["offset_rows"].dtype == np.float16


def test_where_classes_and_channels_are_many_the_tables_keep_to_two_mebibytes():
    many = Channels.of([("a.mean", 3000), ("a.variance", 3000)])
    rng = np.random.default_rng(0)
    seen = rng.uniform(0.5, 1, (300, 6000)).astype(np.float32)

    tables = measure_classes([(seen, one_hot(np.arange(300), 300))], many)

    products = (tables.offset_mix, tables.offset_rows, tables.spread_mix, tables.spread_rows)
    assert 1.9 * 2**20 < sum(array.nbytes for array in products) <= 2 << 20


def test_the_tables_of_some_channels_are_those_of_all_where_these_are():
    seen, labels = frames_of()
    tables = measure_classes([(seen, one_hot(labels, 4))], CHANNELS)
    chosen = np.array([True, False, False, True, True])
    some, certain = tables.of_channels(chosen), one_hot([1], 4)[0]

    assert some.offset(certain) == pytest.approx(tables.offset(certain)[chosen])
    assert some.spread(certain) == pytest.approx(tables.spread(certain)[chosen])
    assert some.fluctuation.tolist() == tables.fluctuation[chosen].tolist()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda arrays: arrays.pop("share"), "lack 'share'"),
        (lambda arrays: arrays.update(offset_rows=np.zeros((4, 6), np.float16)), r"'offset_rows' is \[4, 6\]"),
        (lambda arrays: arrays.update(offset_mix=np.zeros((3, 4), np.float16)), r"'offset_mix' is \[3, 4\]"),
        (lambda arrays: arrays.update(deviation=np.full(5, np.nan, np.float32)), "'deviation' holds NaN"),
    ],
)
def test_tables_that_do_not_fit_are_refused(change, what):
    seen, labels = frames_of()
    arrays = measure_classes([(seen, one_hot(labels, 4))], CHANNELS).arrays()
    change(arrays)

    with pytest.raises(UsageError, match=what):
        ClassTables.from_arrays(arrays, 4, 5)


def test_nothing_can_be_measured_without_frames():
    with pytest.raises(UsageError, match="no frame"):
        measure_classes([], CHANNELS)
    with pytest.raises(UsageError, match="2 frames with weights for 3"):
        measure_classes([(np.zeros((2, 10), np.float32), one_hot([0, 1, 2], 4))], CHANNELS)
