"""Opening a stream: what is played, in which order, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ecotta_rt.data.cifar import CIFAR_10, read_binary
from ecotta_rt.data.corruptions import CORRUPTIONS, corrupt
from ecotta_rt.data.fashion_mnist import CLASSES, read_fashion_mnist
from ecotta_rt.data.image_sets import find_image_set
from ecotta_rt.data.stream import open_stream, source_frames
from ecotta_rt.errors import InputFileError, Unavailable, UsageError
from ecotta_rt.files.cifar import BINARIES

SAMPLE = Path(__file__).parents[2] / "benchmarks" / "data" / "fashion-mnist-sample"
CHEAP = ("contrast", "brightness", "impulse_noise")


@pytest.fixture
def cifar_10(tmp_path):
    """A folder as the archive unpacks: 20 test images, 2 images a training file, all different."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    generator = np.random.default_rng(5)
    for name, count in [("test_batch.bin", 20)] + [(f"data_batch_{i}.bin", 2) for i in range(1, 6)]:
        records = generator.integers(0, 256, (count, 3073), np.uint8)
        records[:, 0] = np.arange(count) % 10
        (folder / name).write_bytes(records.tobytes())
    return folder


@pytest.fixture
def cifar_10_c(tmp_path):
    """Two corruptions of 4 images a severity; frame n of a file is filled with n, its label at severity 1."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    frames = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None], (20, 32, 32, 3))
    for name in ("fog", "contrast"):
        np.save(folder / f"{name}.npy", frames)
    np.save(folder / "labels.npy", np.tile(np.arange(4), 5))
    return folder


def test_the_embedded_stream_plays_all_corruptions_in_the_official_order():
    stream = open_stream("fashion-mnist-c", frames=2)

    assert stream.name == "fashion-mnist-c"
    assert tuple(segment.corruption for segment in stream.segments) == CORRUPTIONS
    assert (stream.severity, stream.seed, stream.frames_per_corruption) == (5, 0, 2)
    assert stream.classes == CLASSES
    for segment in stream.segments:
        assert segment.frames.shape == (2, 32, 32, 3)
        assert segment.frames.dtype == np.uint8
        assert segment.labels.shape == (2,)
        assert segment.labels.dtype == np.int64


def test_frames_are_test_images_under_the_corruption_with_their_own_labels():
    frames, labels = read_fashion_mnist(SAMPLE, "t10k")
    by_content = dict(zip((frame.tobytes() for frame in corrupt(frames, "contrast", severity=3)), labels, strict=True))

    (segment,) = open_stream("fashion-mnist-c", corruptions=["contrast"], severity=3, frames=50).segments

    assert [by_content[frame.tobytes()] for frame in segment.frames] == segment.labels.tolist()


def test_the_same_seed_plays_the_same_stream_and_another_seed_another():
    first, again, other = (open_stream(corruptions=CHEAP, frames=8, seed=seed) for seed in (3, 3, 4))

    for one, two, three in zip(first.segments, again.segments, other.segments, strict=True):
        np.testing.assert_array_equal(one.frames, two.frames)
        np.testing.assert_array_equal(one.labels, two.labels)
        assert (one.frames != three.frames).any()


def test_fewer_frames_are_the_beginning_of_more():
    few, many = (open_stream(corruptions=CHEAP, frames=count) for count in (3, 9))

    for short, long in zip(few.segments, many.segments, strict=True):
        np.testing.assert_array_equal(short.frames, long.frames[:3])


def test_a_corruption_plays_the_same_frames_whatever_is_played_beside_it():
    alone = open_stream(corruptions=["fog"], frames=4).segments[0]
    among = open_stream(corruptions=["snow", "fog"], frames=4).segments[1]

    np.testing.assert_array_equal(alone.frames, among.frames)


def test_each_corruption_draws_its_own_frames(cifar_10):
    segments = open_stream(cifar_10, corruptions=CHEAP).segments

    orders = {tuple(segment.labels.tolist()) for segment in segments}

    assert len(orders) == len(CHEAP)
    for segment in segments:  # all of them, so each class twice
        np.testing.assert_array_equal(np.bincount(segment.labels), [2] * 10)


def test_corruptions_can_be_played_in_a_random_order():
    given, shuffled, again = (
        [segment.corruption for segment in open_stream(frames=1, seed=1, shuffle_corruptions=shuffle).segments]
        for shuffle in (False, True, True)
    )

    assert shuffled == again != given
    assert sorted(shuffled) == sorted(given)


def test_one_corruption_may_be_named_without_a_list():
    assert [segment.corruption for segment in open_stream(corruptions="fog", frames=1).segments] == ["fog"]


def test_a_cifar_c_folder_is_played_as_it_is(cifar_10_c):
    stream = open_stream(cifar_10_c, corruptions=["fog", "contrast"], severity=2)

    assert stream.name == "cifar-10-c"
    assert stream.classes == CIFAR_10
    assert stream.frames_per_corruption == 4
    for segment in stream.segments:
        np.testing.assert_array_equal(segment.frames[:, 0, 0, 0], 4 + segment.labels)
        assert segment.frames.flags.writeable  # a copy, not a view of the file
    assert stream.segments[0].labels.tolist() != stream.segments[1].labels.tolist()


def test_a_corruption_that_the_folder_lacks_is_an_error_that_names_the_file(cifar_10_c):
    with pytest.raises(InputFileError, match=r"no file snow\.npy in it; there are: contrast, fog"):
        open_stream(cifar_10_c, corruptions=["snow"])


def test_cifar_test_images_are_corrupted_here_and_the_name_says_so(cifar_10):
    assert open_stream(cifar_10, corruptions=CHEAP).name == "cifar-10 (corrupted here)"


@pytest.mark.parametrize("as_text", [True, False])
def test_a_folder_around_the_official_one_will_do(cifar_10, as_text):
    around = cifar_10.parent

    assert open_stream(str(around) if as_text else around, corruptions=CHEAP).frames_per_corruption == 20


def test_two_official_folders_side_by_side_are_ambiguous(cifar_10, cifar_10_c):
    with pytest.raises(UsageError, match="holds cifar-10-batches-bin and CIFAR-10-C; name one of them"):
        open_stream(cifar_10.parent)


def test_what_cannot_be_meant_is_refused(subtests):
    for wrong, message in [
        ({"data": "fashion-mnist"}, "no such folder.*did you mean fashion-mnist-c"),
        ({"data": "/nowhere"}, "no such folder"),
        ({"corruptions": ["fog", "frosst"]}, "unknown corruption 'frosst'; did you mean frost"),
        ({"corruptions": ["fog", "fog"]}, "fog is named 2 times"),
        ({"corruptions": []}, "no corruption is named"),
        ({"severity": 7}, "severity 7"),
        ({"frames": 0}, "0 frames asked for"),
        ({"frames": 2501}, "2501 frames asked for: there are 2500 test images in fashion-mnist-c"),
        ({"seed": -3}, "seed -3"),
    ]:
        with subtests.test(wrong=wrong), pytest.raises(UsageError, match=message):
            open_stream(**wrong)


def test_an_empty_folder_is_told_what_is_read(tmp_path):
    with pytest.raises(UsageError, match=r"holds none of the layouts we read: CIFAR-10-C .* Fashion-MNIST"):
        open_stream(tmp_path)


def test_training_images_are_clean_seeded_and_no_test_images():
    frames, labels = source_frames("fashion-mnist-c", 100, seed=2)

    assert frames.shape == (100, 32, 32, 3)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(frames, source_frames("fashion-mnist-c", 100, seed=2)[0])
    assert (frames != source_frames("fashion-mnist-c", 100, seed=3)[0]).any()
    train = {frame.tobytes() for frame in read_fashion_mnist(SAMPLE, "train")[0]}
    assert {frame.tobytes() for frame in frames} <= train


def test_training_images_of_cifar_come_from_the_training_files(cifar_10):
    frames, labels = source_frames(cifar_10)

    assert len(frames) == 10
    np.testing.assert_array_equal(np.bincount(labels), [5, 5])


def test_a_cifar_c_folder_finds_its_training_images_beside_it(cifar_10, cifar_10_c):
    assert len(source_frames(cifar_10_c, 4)[0]) == 4


def test_a_cifar_c_folder_alone_has_no_training_images(cifar_10_c):
    with pytest.raises(UsageError, match=r"holds no training images: put .* beside it, as .*cifar-10-batches-bin"):
        source_frames(cifar_10_c)


def test_a_cifar_c_folder_finds_its_clean_images_beside_it_where_they_are_those_that_were_corrupted(
    cifar_10, cifar_10_c
):
    images = find_image_set(cifar_10_c)

    expected = read_binary(cifar_10, BINARIES[0], "test")[0][[3, 0]]
    np.testing.assert_array_equal(images.clean(np.array([3, 0])), expected)
    assert images.labels.tolist() == [0, 1, 2, 3]

    np.save(cifar_10_c / "labels.npy", np.tile(np.arange(4)[::-1], 5))
    with pytest.raises(InputFileError, match="the test images beside it are not those that were corrupted"):
        find_image_set(cifar_10_c).clean(np.array([0]))


def test_more_training_images_than_there_are_is_refused():
    with pytest.raises(UsageError, match="there are 4000 training images in fashion-mnist-c"):
        source_frames("fashion-mnist-c", 4001)


def test_the_sample_is_found_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ECOTTA_ASSETS", str(tmp_path))
    with pytest.raises(Unavailable, match="ECOTTA_ASSETS"):
        open_stream()
    (tmp_path / "data").mkdir()
    with pytest.raises(Unavailable, match="the embedded sample is missing"):
        open_stream()

    shutil.copytree(SAMPLE, tmp_path / "data" / "fashion-mnist-sample")

    assert open_stream(corruptions="contrast", frames=1).name == "fashion-mnist-c"


def test_a_full_fashion_mnist_folder_is_a_source_too():
    assert open_stream(SAMPLE, corruptions="contrast", frames=1).name == "fashion-mnist-c"
