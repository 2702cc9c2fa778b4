import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.sources.replay import CifarReplay

COUNT = 10


def images(count=COUNT, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


@pytest.fixture
def corrupted(tmp_path):
    np.save(tmp_path / "labels.npy", np.arange(COUNT) % 4)
    np.save(tmp_path / "fog.npy", images(seed=1))
    np.save(tmp_path / "blur.npy", images(seed=2))
    return tmp_path


@pytest.fixture
def binary(tmp_path):
    records = np.concatenate([np.arange(3, dtype=np.uint8)[:, None], images(3).transpose(0, 3, 1, 2).reshape(3, -1)], 1)
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    return tmp_path


def test_one_corruption_is_played_with_its_labels(corrupted):
    frames = list(CifarReplay(corrupted, "fog"))

    assert np.array_equal([frame.pixels for frame in frames], images(seed=1))
    assert [frame.label for frame in frames] == [i % 4 for i in range(COUNT)]
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert frames[3].name == "fog[3]"
    assert all(type(frame.label) is int for frame in frames)


def test_without_a_name_all_are_played_one_after_the_other(corrupted):
    frames = list(CifarReplay(corrupted))

    assert [frame.name.split("[")[0] for frame in frames] == COUNT * ["blur"] + COUNT * ["fog"]
    assert [frame.index for frame in frames] == list(range(2 * COUNT))


def test_a_severity_is_a_fifth_of_the_file(corrupted):
    frames = list(CifarReplay(corrupted, "fog", 5))

    assert np.array_equal([frame.pixels for frame in frames], images(seed=1)[8:])
    assert [frame.label for frame in frames] == [0, 1]
    assert frames[0].name == "fog-5[0]"


def test_the_binary_test_images_are_played_with_their_labels(binary):
    frames = list(CifarReplay(binary))

    assert np.array_equal([frame.pixels for frame in frames], images(3))
    assert [frame.label for frame in frames] == [0, 1, 2]


def test_frames_are_copies_and_not_windows_into_the_file(corrupted):
    frame = next(iter(CifarReplay(corrupted, "fog")))

    assert frame.pixels.flags.owndata
    assert type(frame.pixels) is np.ndarray


def test_labels_beyond_the_networks_classes_are_refused_before_the_first_frame(corrupted):
    CifarReplay(corrupted, classes=4)

    with pytest.raises(InputFileError, match="label 3 at position 3, expected 0 to 2"):
        CifarReplay(corrupted, classes=3)


def test_files_that_do_not_fit_are_refused(corrupted, subtests):
    for file, content, message in [
        ("fog.npy", np.zeros((COUNT, 32, 32, 3), np.float32), "float32 of shape .*expected uint8"),
        ("fog.npy", np.zeros((COUNT, 3, 32, 32), np.uint8), r"expected uint8 \[N, 32, 32, 3\]"),
        ("fog.npy", np.zeros((0, 32, 32, 3), np.uint8), "empty"),
        ("labels.npy", np.zeros(COUNT - 1, int), "fog.npy: 10 frames, but .* has 9 labels"),
        ("labels.npy", np.zeros(COUNT), "float64"),
        ("labels.npy", -np.ones(COUNT, int), "label -1 at position 0, expected 0 or more"),
    ]:
        with subtests.test(message):
            whole = (corrupted / file).read_bytes()
            np.save(corrupted / file, content)

            with pytest.raises(InputFileError, match=message):
                CifarReplay(corrupted, "fog")
            (corrupted / file).write_bytes(whole)


def test_objects_are_never_unpickled(corrupted):
    np.save(corrupted / "labels.npy", np.array([print] * COUNT, object), allow_pickle=True)

    with pytest.raises(InputFileError, match=r"labels.npy: not a .npy file"):
        CifarReplay(corrupted, "fog")


@given(cut=st.integers(0, 127 + 3072))
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("replay")
    np.save(folder / "labels.npy", np.zeros(1, int))
    np.save(folder / "fog.npy", images(1))
    path = folder / "fog.npy"
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(InputFileError):
        CifarReplay(folder, "fog")


def test_an_unknown_corruption_is_told_with_those_that_are_there(corrupted):
    for name in ("frost", "../fog"):
        with pytest.raises(InputFileError, match="there are: blur, fog"):
            CifarReplay(corrupted, name)


def test_severities_are_those_of_whole_fifths(corrupted):
    with pytest.raises(UsageError, match="from 1 to 5"):
        CifarReplay(corrupted, "fog", 6)
    np.save(corrupted / "labels.npy", np.zeros(7, int))
    np.save(corrupted / "fog.npy", images(7))
    with pytest.raises(InputFileError, match="7 frames are not 5 severities"):
        CifarReplay(corrupted, "fog", 1)


def test_a_truncated_binary_is_refused(binary):
    path = binary / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(InputFileError, match="whole records of 3073"):
        CifarReplay(binary)


def test_clean_images_have_no_corruption(binary):
    with pytest.raises(UsageError, match="clean images"):
        CifarReplay(binary, "fog")


def test_folders_of_another_kind_are_refused(tmp_path):
    with pytest.raises(InputFileError, match="neither labels.npy"):
        CifarReplay(tmp_path)
    np.save(tmp_path / "labels.npy", np.zeros(3, int))
    with pytest.raises(InputFileError, match="no frames"):
        CifarReplay(tmp_path)
