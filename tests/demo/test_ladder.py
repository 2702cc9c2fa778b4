import numpy as np

from ecotta_rt.demo.ladder import WAYS


def test_every_way_answers_every_frame_and_only_learning_learns(played):
    stream, outcome = played

    assert tuple(outcome.wrong) == WAYS
    assert all(wrong.shape == stream.labels.shape for wrong in outcome.wrong.values())
    assert 0 < outcome.learned <= stream.labels.size
    assert all(ms > 0 for ms in outcome.ms_per_frame.values())


def test_the_watcher_sees_rows_grow_and_end_as_the_outcome(played, told):
    stream, outcome = played
    ended = [(corruption, wrong) for corruption, wrong, over in told if over]

    assert [corruption for corruption, _ in ended] == list(stream.corruptions)
    for place, (_, wrong) in enumerate(ended):
        assert all((wrong[way] == outcome.wrong[way][place]).all() for way in WAYS)


def test_each_way_goes_on_from_its_own_state(bundle, played):
    """Learning alone, without the other ways between its frames, makes the same mistakes; and so does a run again."""
    from ecotta_rt.runtime.engine import Runtime

    stream, outcome = played
    runtime = Runtime.load(bundle)
    runtime(stream.frames[0, :1])  # as `climb` warms up
    runtime.reset()
    pairs = zip(stream.frames.reshape(-1, 1, 32, 32, 3), stream.labels.ravel(), strict=True)
    wrong = [runtime(frame).labels[0] != label for frame, label in pairs]

    np.testing.assert_array_equal(wrong, outcome.wrong["learning"].ravel())
