"""What is shipped is what it says: a bundle that all of us can use, a stream, and the network as it came."""

import numpy as np
import pytest

from ecotta_rt.bundle import read_bundle
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.fashion_mnist import CLASSES
from ecotta_rt.demo import ladder, shipped
from ecotta_rt.demo.shipped import read_stream, unpack_bundle
from ecotta_rt.errors import InputFileError, Unavailable, UsageError
from ecotta_rt.options import SessionOptions
from ecotta_rt.runtime.engine import Runtime

MOST_BYTES = 3 * 2**20


def test_the_shipped_files_weigh_at_most_3_mib():
    assert sum(path.stat().st_size for path in (shipped.BUNDLE, shipped.STREAM)) <= MOST_BYTES


def test_the_bundle_is_whole_and_learns_from_single_frames(bundle):
    manifest = read_bundle(bundle).manifest

    assert [graph.name for graph in manifest.graphs] == ["step-1", "predict-1", shipped.HELD]
    assert manifest.normalisation == "running"
    assert manifest.classes == CLASSES


def test_the_stream_is_the_beginning_of_the_benchs_as_a_grey_camera_sees_it():
    make_demo = pytest.importorskip("make_demo")
    stream = read_stream()
    segment = make_demo.open_stream(corruptions=["pixelate"], frames=make_demo.FRAMES, seed=0).segments[0]
    place = stream.corruptions.index("pixelate")

    assert stream.corruptions == CORRUPTIONS
    assert stream.frames.shape == (15, make_demo.FRAMES, 32, 32, 3)
    np.testing.assert_array_equal(stream.frames[place], np.repeat(segment.frames[..., :1], 3, axis=-1))
    np.testing.assert_array_equal(stream.labels[place], segment.labels)


def test_a_seed_chooses_other_frames_and_the_same_ones_again():
    whole, first, again, other = read_stream(), read_stream(5, 1), read_stream(5, 1), read_stream(5, 2)

    np.testing.assert_array_equal(first.frames, again.frames)
    assert (first.frames != other.frames).any()
    assert (read_stream(5).frames == whole.frames[:, :5]).all()
    for frames, labels, all_frames, all_labels in zip(
        first.frames, first.labels, whole.frames, whole.labels, strict=True
    ):
        for frame, label in zip(frames, labels, strict=True):
            assert label in all_labels[(all_frames == frame).all(axis=(1, 2, 3))]


@pytest.mark.parametrize(("frames", "seed"), [(0, 0), (49, 0), (-1, 0), (1, -1)])
def test_a_length_or_seed_that_cannot_be_is_refused(frames, seed):
    with pytest.raises(UsageError, match=r"--frames .*1 to 48|--seed -1"):
        read_stream(frames, seed)


def test_the_state_as_it_came_answers_as_the_network_without_groups(bundle):
    torch = pytest.importorskip("torch")
    import make_demo

    network = make_demo.rounded_network()
    stream = read_stream(1)
    frames = stream.frames[:, 0]
    ways = ladder._ways(bundle, stream, SessionOptions())
    runtime, answer = ways["as it came"]
    runtime.restore(ladder._as_it_came(bundle, stream))
    answers = [answer(frame[None]).probabilities[0] for frame in frames]
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        for piece in network.frozen_pieces():
            x = piece.eval()(x)

    np.testing.assert_allclose(answers, torch.softmax(x, 1).numpy(), atol=2e-5)


def test_a_missing_or_damaged_file_says_to_install_again(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "BUNDLE", tmp_path / "network.ecotta.xz")
    with pytest.raises(Unavailable, match="install ecotta_rt again"):
        unpack_bundle(tmp_path / "b.ecotta")

    shipped.BUNDLE.write_bytes(b"not xz")
    with pytest.raises(InputFileError, match="damaged"):
        unpack_bundle(tmp_path / "b.ecotta")


@pytest.mark.slow
def test_todays_exporter_writes_a_bundle_that_answers_and_learns_alike(bundle, tmp_path):
    pytest.importorskip("torch")
    import make_demo

    make_demo.make_bundle(make_demo.rounded_network(), tmp_path / "today.ecotta")
    theirs, ours = Runtime.load(bundle), Runtime.load(tmp_path / "today.ecotta")
    for frame in read_stream(2).frames.reshape(-1, 1, 32, 32, 3):
        expected, found = theirs(frame), ours(frame)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-3)
        assert found.adapted == expected.adapted

    assert read_bundle(tmp_path / "today.ecotta").manifest.options == read_bundle(bundle).manifest.options
    assert max(ours.state.compare(theirs.state).values()) < 1e-2
