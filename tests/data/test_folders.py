import pytest

from ecotta_rt.data import find_pictures, is_class_folders, open_class_folders
from ecotta_rt.errors import InputFileError, UsageError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def relative(root, files):
    return [path.relative_to(root).as_posix() for path in files]


def test_labels_count_the_folders_in_alphabetical_order_capitals_first(tmp_path):
    touch(tmp_path, "dog/1.jpg", "dog/10.jpg", "dog/2.jpg", "Cat/a/deep.png", "ant/x.webp", "readme.txt")

    found = open_class_folders(tmp_path)

    assert found.classes == ("Cat", "ant", "dog")
    assert relative(tmp_path, found.files) == ["Cat/a/deep.png", "ant/x.webp", "dog/1.jpg", "dog/2.jpg", "dog/10.jpg"]
    assert found.labels.tolist() == [0, 1, 2, 2, 2]
    assert found.held_out_files == ()


@pytest.mark.parametrize(("training", "held_out"), [("train", "val"), ("training", "test"), ("train", "validation")])
def test_train_and_val_folders_are_recognised(tmp_path, training, held_out):
    touch(tmp_path, f"{training}/a/1.jpg", f"{training}/b/1.jpg", f"{held_out}/b/2.jpg")

    found = open_class_folders(tmp_path)

    assert relative(tmp_path, found.files) == [f"{training}/a/1.jpg", f"{training}/b/1.jpg"]
    assert relative(tmp_path, found.held_out_files) == [f"{held_out}/b/2.jpg"]
    assert found.held_out_labels.tolist() == [1]


def test_a_class_may_be_called_train(tmp_path):
    touch(tmp_path, "train/1.jpg", "bus/1.jpg")

    assert open_class_folders(tmp_path).classes == ("bus", "train")


def test_names_set_the_order_and_may_say_what_a_folder_is_called(tmp_path):
    touch(tmp_path, "n01/1.jpg", "n02/1.jpg")

    found = open_class_folders(tmp_path, ["n02=goldfish", "shark", "n01=tench"])

    assert found.classes == ("goldfish", "shark", "tench")
    assert found.labels.tolist() == [2, 0]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    touch(tmp_path, "a/.hidden.jpg", "a/.git/x.jpg", "a/1.jpg", "b/1.jpg", ".cache/x.jpg")

    assert relative(tmp_path, open_class_folders(tmp_path).files) == ["a/1.jpg", "b/1.jpg"]
    assert relative(tmp_path, find_pictures(tmp_path)) == ["a/1.jpg", "b/1.jpg"]


def test_links_that_lead_round_in_circles_are_not_followed(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a" / "again").symlink_to(tmp_path)

    assert len(open_class_folders(tmp_path).files) == 2


def test_folders_that_do_not_say_which_class_is_which_are_refused(tmp_path_factory, subtests):
    for names, classes, kind, reason in [
        (["a/1.jpg"], [], InputFileError, "1 class folders, expected at least 2"),
        (["1.jpg"], [], InputFileError, "0 class folders"),
        (["a/1.jpg", "b/.keep"], [], InputFileError, "b: no file in it"),
        (["a/1.jpg", "b\x1b/1.jpg"], [], InputFileError, r"the folder 'b\\x1b' has no printable name"),
        (["a/1.jpg", "b/1.jpg"], ["a", "c"], UsageError, "does not name the folder 'b'; it names a, c"),
        (["a/1.jpg", "b/1.jpg"], ["a", "a", "b"], UsageError, "names 'a' twice"),
        (["train/a/1", "train/b/1", "val/c/1"], [], InputFileError, "val/c: no class of that name; known: a, b"),
    ]:
        with subtests.test(names=names, classes=classes):
            folder = tmp_path_factory.mktemp("pictures")
            touch(folder, *names)

            with pytest.raises(kind, match=reason):
                open_class_folders(folder, classes)


def test_class_folders_are_told_from_pictures_alone(tmp_path):
    touch(tmp_path, "flat/1.jpg", "deep/a/1.jpg")

    assert not is_class_folders(tmp_path / "flat")
    assert is_class_folders(tmp_path / "deep")


def test_a_folder_without_a_file_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(InputFileError, match="empty: no file in it or in the folders below it"):
        find_pictures(tmp_path / "empty")
