import numpy as np
import pytest
import torch

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.student.batches import batches, batches_an_epoch, frame_batches
from ecotta_rt.student.domains import Domain, Domains, find_domains

PLAIN = Augmentation(())


@pytest.fixture
def pictures(tmp_path):
    """Writes `FOLDER/NAME/K.png`, a colour a class, and returns the folder."""
    image = pytest.importorskip("PIL.Image")

    def write(folder, names, count=3):
        for label, name in enumerate(names):
            for number in range(count):
                path = tmp_path / folder / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.fromarray(np.full((8, 10, 3), 40 * label + number, np.uint8)).save(path)
        return tmp_path / folder

    return write


def numbered(count, first=0, labels=True):
    """Frames of 2x2 that hold their own number."""
    frames = np.broadcast_to(np.arange(first, first + count, dtype=np.uint8)[:, None, None, None], (count, 2, 2, 3))
    return Domain(f"from {first}", np.ascontiguousarray(frames), np.arange(count) % 2 if labels else None)


def test_opens_class_folders_and_plain_folders(pictures, tmp_path):
    source, door, yard = pictures("source", ["cat", "dog"]), pictures("door", [""]), pictures("yard", ["dog"])

    domains = find_domains(source, {"door": door, "yard": yard}).frames(FrameSpec(3, 6, 6), tmp_path / "store")

    assert domains.classes == ("cat", "dog") and domains.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert [domain.name for domain in domains.targets] == ["door", "yard"]
    assert [len(domain.frames) for domain in domains.targets] == [3, 3]
    assert all(domain.labels is None and domain.frames.shape[1:] == (6, 6, 3) for domain in domains.targets)


def test_pictures_that_a_source_holds_out_are_not_decoded(pictures, tmp_path):
    pictures("source/train", ["cat", "dog"])
    pictures("source/val", ["cat", "dog"], count=2)
    told = []

    found = find_domains(tmp_path / "source", {})
    domains = found.frames(FrameSpec(3, 6, 6), tmp_path / "store", lambda done, total: told.append((done, total)))

    assert found.source.count == len(domains.source.frames) == 6
    assert told[-1] == (6, 6)


def test_opens_arrays_and_gives_grey_ones_the_networks_colours(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (6, 5, 5), dtype=np.uint8)
    np.savez(tmp_path / "source.npz", x_train=grey, y_train=np.array([0, 1, 2] * 2))
    np.save(tmp_path / "fog.npy", np.zeros((4, 8, 8, 3), np.uint8))

    domains = find_domains(tmp_path / "source.npz", {"fog": tmp_path / "fog.npy"}).frames(
        FrameSpec(3, 5, 5), tmp_path / "store"
    )

    assert np.array_equal(domains.source.frames, np.repeat(grey[..., None], 3, 3)) and domains.classes == (
        "0",
        "1",
        "2",
    )
    assert domains.targets[0].frames.shape == (4, 5, 5, 3)


def test_opens_published_folders(ecotta_data, tmp_path):
    folder = ecotta_data / "cifar-10-batches-bin"

    domains = find_domains(folder, {"same": folder}, count=20, seed=1).frames(FrameSpec(3, 32, 32), tmp_path / "store")

    assert len(domains.labels) == len(domains.targets[0].frames) == 20 and "frog" in domains.classes


def test_stores_of_decoded_pictures_are_removed(pictures, tmp_path):
    found = find_domains(pictures("source", ["cat", "dog"]), {"door": pictures("door", [""])})
    found.frames(FrameSpec(3, 4, 4), tmp_path / "store")
    assert len(list(tmp_path.glob("store.*"))) == 4

    found.remove(tmp_path / "store")

    assert not list(tmp_path.glob("store.*"))


@pytest.mark.parametrize(
    ("classes", "error", "why"),
    [
        (["cat"], InputFileError, "1 class folders"),
        ([""], UsageError, "no class folders"),
        ([], InputFileError, "no such"),
    ],
)
def test_refuses_a_source_without_two_classes(pictures, classes, error, why):
    with pytest.raises(error, match=why):
        find_domains(pictures("source", classes), {})


def test_refuses_a_source_of_one_class_in_arrays(tmp_path):
    np.savez(tmp_path / "one.npz", x_train=np.zeros((4, 5, 5), np.uint8), y_train=np.zeros(4, np.int64))

    with pytest.raises(UsageError, match="pictures of 1 class"):
        find_domains(tmp_path / "one.npz", {})


def test_refuses_class_folders_of_other_names_unless_they_are_no_classes(pictures):
    source, target = pictures("source", ["cat", "dog"]), pictures("target", ["cat", "hound"])

    with pytest.raises(InputFileError, match=r"target yard: .*no class of the source: hound; the source has cat, dog"):
        find_domains(source, {"yard": target})
    assert find_domains(source, {"yard": target}, plain_targets=True).targets["yard"].count == 6


def test_refuses_a_target_without_pictures(pictures, tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(InputFileError, match="no file in it"):
        find_domains(pictures("source", ["cat", "dog"]), {"yard": tmp_path / "empty"})
    with pytest.raises(InputFileError, match="target yard: .*no such folder"):
        find_domains(tmp_path / "source", {"yard": tmp_path / "nowhere"})


def test_refuses_domains_that_do_not_fit_each_other():
    with pytest.raises(UsageError, match="no labels"):
        Domains(numbered(4, labels=False), (), ("a", "b"))
    with pytest.raises(UsageError, match="one size"):
        Domains(numbered(4), (Domain("large", np.zeros((2, 4, 4, 3), np.uint8)),), ("a", "b"))
    with pytest.raises(UsageError, match="labels go from 0 to 1, and there are 1 classes"):
        Domains(numbered(4), (), ("a",))


def test_an_epoch_passes_over_the_source_once_and_cycles_each_target_on_its_own():
    domains = Domains(numbered(13), (numbered(3, 100), numbered(40, 200)), ("a", "b"))

    found = list(batches(domains, 4, torch.Generator().manual_seed(0), PLAIN))

    def numbers(frames):
        return (frames[:, 0, 0, 0] * 255).round().int().tolist()

    assert len(found) == batches_an_epoch(domains, 4) == 3
    source = [number for batch in found for number in numbers(batch.source)]
    assert len(set(source)) == 12 and set(source) <= set(range(13))
    assert all(batch.labels.tolist() == [number % 2 for number in numbers(batch.source)] for batch in found)
    small = [number for batch in found for number in numbers(batch.targets[0])]
    assert sorted(small) == [100] * 4 + [101] * 4 + [102] * 4
    large = [number for batch in found for number in numbers(batch.targets[1])]
    assert len(set(large)) == 12 and set(large) <= set(range(200, 240))


def test_the_generator_decides_batches_and_augmentation():
    domains = Domains(numbered(13), (numbered(5, 100),), ("a", "b"))

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([torch.cat([batch.source, *batch.targets]) for batch in batches(domains, 4, generator)])

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("size", [2, 8, 100])
def test_frame_batches_mix_domains_evenly(size):
    """All frames of all, of each domain as many as the largest has, in batches of about one size."""
    of_each = [numbered(13), numbered(6, 100), numbered(40, 200)]

    found = [(batch[:, 0, 0, 0] * 255).round().int().tolist() for batch in frame_batches(of_each, size)]

    assert all([number // 100 for number in batch] == sorted(number // 100 for number in batch) for batch in found)
    assert all(len({sum(n // 100 == k for n in batch) for k in range(3)}) == 1 for batch in found)
    numbers = [number for batch in found for number in batch]
    assert len(numbers) == 3 * 40 and len(set(numbers)) == 13 + 6 + 40
    counts = [numbers.count(number) for number in set(numbers) if number < 200]
    assert set(counts[:13]) | set(counts[13:]) <= {40 // 13, 40 // 13 + 1, 40 // 6, 40 // 6 + 1}
    assert max(map(len, found)) - min(map(len, found)) <= 3 and min(map(len, found)) >= 2


def test_one_large_domain_is_not_cut_to_a_small_one():
    found = list(frame_batches([numbered(200), numbered(5, 200)]))

    assert sum(map(len, found)) == 400
    assert len({number for batch in found for number in (batch[:, 0, 0, 0] * 255).round().int().tolist()}) == 205


@pytest.mark.parametrize("size", [1, 14])
def test_refuses_batches_that_cannot_be(size):
    domains = Domains(numbered(13), (), ("a", "b"))

    with pytest.raises(UsageError, match=f"batch {size}: from 2 up to the 13 pictures"):
        batches_an_epoch(domains, size)
