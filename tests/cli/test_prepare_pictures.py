"""`ecotta prepare` on a stranger's own network and pictures, and what the device then makes of pictures."""

import json

import numpy as np
import pytest
import torch

from ecotta_rt.bundle import FrameSpec, read_bundle
from ecotta_rt.cli.main import main
from ecotta_rt.cli.prepare_data import choose_frame
from ecotta_rt.cli.prepare_options import class_names, frame_size
from ecotta_rt.errors import InputFileError, NetworkError, UsageError
from ecotta_rt.method.cut.normalise import Normalised
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.prepare.open_network import frame_channels, made_for, open_network, wanted_normalisation
from ecotta_rt.runtime.engine import Runtime

Image = pytest.importorskip("PIL.Image")

NETWORK = """
from torch import nn


def cell(inputs, outputs, stride):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def make(channels={channels}):
    return nn.Sequential(
        cell(channels, 4, 1), cell(4, 8, 2), cell(8, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
"""
TINY = ["--parts", "2", "--epochs", "1", "--batch", "8"]


@pytest.fixture
def pictures(tmp_path):
    """Three classes of ten pictures each: mostly red, mostly green, mostly blue, of two shapes."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("red", "green", "blue")):
        for number in range(10):
            size = (12, 16) if number % 2 else (20, 14)
            pixels = rng.integers(0, 80, (*size, 3)).astype(np.uint8)
            pixels[..., label] += 150
            path = tmp_path / "pictures" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def network(tmp_path):
    """Writes a file with a network of so many channels; returns what the command calls it."""

    def write(channels=3):
        (tmp_path / "net.py").write_text(NETWORK.format(channels=channels), encoding="utf-8")
        return f"{tmp_path / 'net.py'}:make"

    return write


def test_pictures_of_any_size_become_a_bundle_that_says_how_they_became_frames(network, pictures, tmp_path, capsys):
    (pictures / "red" / "torn.jpg").write_bytes(b"\xff\xd8\xff half a picture")
    how = ["--size", "8x10", "--crop", "0.875", "--mean", "0.5", "--std", "0.25", "--classes", "blue,green,red=rot"]

    code = main(["prepare", network(), "--data", str(pictures), *TINY, *how, "--json"])

    shown = capsys.readouterr()
    told = shown.err
    assert code == 0, told
    manifest = read_bundle(tmp_path / "net.ecotta").manifest
    assert manifest.frame == FrameSpec(3, 8, 10, "cover", 0.875)
    assert manifest.classes == ("blue", "green", "rot")
    assert manifest.metadata["held_out"].startswith("3 pictures, wrong: ")
    assert "1 file left out:" in told
    assert "red/torn.jpg: no picture of the formats we read" in told
    assert "27 pictures to learn from, 3 held out; 3 classes; frames 8 x 10, RGB" in told
    assert "before the warm-up" in told
    assert "of 3 held-out pictures wrong" in told
    done = json.loads(shown.out)
    assert done["files"] == [str(tmp_path / name) for name in ("net.ecotta-k2.safetensors", "net.ecotta")]
    assert done["left_out"] == 1 and done["minutes"] > 0
    assert done["held_out"]["pictures"] == 3
    assert set(done["held_out"]["wrong_percent"]) == {"before", "after"}
    left = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert left == ["net.ecotta", "net.ecotta-k2.safetensors", "net.py"]

    runtime = Runtime.load(tmp_path / "net.ecotta")
    prediction = runtime(runtime.preprocess(np.asarray(Image.open(pictures / "blue" / "0.png")))[None])
    assert prediction.names == (manifest.classes[prediction.labels[0]],)


def test_grey_networks_go_all_the_way(network, pictures, tmp_path, capsys):
    """Colour pictures are made grey on both sides by one rule, and each way to hand frames in says the same."""
    assert main(["prepare", network(channels=1), "--data", str(pictures), "--size", "8", *TINY]) == 0
    bundle = tmp_path / "net.ecotta"
    assert read_bundle(bundle).manifest.frame == FrameSpec(1, 8, 8)
    (tmp_path / "stream").mkdir()
    picture = np.asarray(Image.open(pictures / "green" / "1.png"))
    Image.fromarray(picture).save(tmp_path / "stream" / "a.ppm")
    np.save(tmp_path / "stream" / "b.npy", picture[..., 1])
    capsys.readouterr()

    assert main(["inspect", str(bundle)]) == 0
    assert "frames         1 x 8 x 8, grey" in capsys.readouterr().out
    assert main(["plan", str(bundle), "--device", "raspberry-pi-zero-2w"]) == 0
    capsys.readouterr()
    assert main(["run", str(bundle), str(tmp_path / "stream"), "--no-state", "--guard", "off", "--no-adapt"]) == 0

    colour, grey = map(json.loads, capsys.readouterr().out.splitlines())
    runtime = Runtime.load(bundle, adapt=False, answer="unfiltered")
    frame = runtime.preprocess(picture)
    assert frame.shape == (8, 8, 1)
    answers = [
        runtime.predict(frames, hold_statistics=True)
        for frames in (frame[None], frame[None, ..., 0], frame[None].transpose(0, 3, 1, 2).astype(np.float32) / 255)
    ]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer.probabilities, answers[0].probabilities, atol=1e-6)
    assert colour["label"] in ("red", "green", "blue")
    assert "refused" not in grey
    with pytest.raises(ValueError, match=r"uint8 \[1, 8, 8, 3\], expected \[1, 8, 8, 1\]"):
        runtime.predict(np.zeros((1, 8, 8, 3), np.uint8))


def test_mistakes_about_pictures_are_told_before_anything_is_decoded(network, pictures, tmp_path, capsys, subtests):
    for arguments, code, reason in [
        ([], 2, "differ in size (15 of the first 30 are 20x14); say with --size HxW"),
        (["--size", "8y8"], 2, "--size 8y8: write height x width"),
        (["--size", "0"], 2, "--size 0"),
        (["--size", "8", "--crop", "1.5"], 2, "--crop 1.5"),
        (["--size", "8", "--held-out", "1"], 2, "--held-out 1.0"),
        (["--size", "8", "--mean", "0.5"], 2, "--mean and --std go together"),
        (["--size", "8", "--mean", "1", "2", "--std", "1", "1"], 2, "mean=[1.0, 2.0]: needs 3 finite numbers"),
        (["--size", "8", "--mean", "0.5", "--std", "0"], 2, "std=[0.0"),
        (["--size", "8", "--classes", "red,green"], 2, "does not name the folder 'blue'"),
        (["--size", "8", "--frames", "31"], 2, "there are 30 pictures"),
        (["--size", "8", "--batch", "64"], 2, "27 frames to learn from are fewer than one batch of 64: give more, or"),
    ]:
        with subtests.test(arguments=arguments):
            assert main(["prepare", network(), "--data", str(pictures), *TINY, *arguments]) == code

            told = capsys.readouterr().err
            assert reason in told
            assert "Traceback" not in told
            assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["net.py"]


def test_a_class_of_damaged_pictures_alone_is_an_error(network, pictures, capsys):
    for path in (pictures / "green").iterdir():
        path.write_bytes(b"damaged")

    assert main(["prepare", network(), "--data", str(pictures), "--size", "8", "--no-bundle", *TINY]) == 4
    assert "no picture of green can be used" in capsys.readouterr().err


def options(**given):
    return type("Options", (), {"size": None, "classes": None, "resize": "cover", "crop": 1.0, **given})


def test_sizes_are_written_with_one_number_or_two():
    assert frame_size(options(size="96")) == (96, 96)
    assert frame_size(options(size="96x128")) == (96, 128)
    assert frame_size(options()) is None


def test_class_names_come_from_the_line_or_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("cat\n\nsausage dog, long\n", encoding="utf-8")

    assert class_names(options(classes="cat, dog")) == ("cat", "dog")
    assert class_names(options(classes=str(tmp_path / "names.txt"))) == ("cat", "sausage dog, long")
    with pytest.raises(UsageError, match="1 names, expected at least 2"):
        class_names(options(classes="cat"))
    with pytest.raises(UsageError, match=r"'c\\x1bt' is not printable"):
        class_names(options(classes="c\x1bt,dog"))
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputFileError, match=r"names\.txt: cannot be read"):
        class_names(options(classes=str(tmp_path / "names.txt")))


def test_a_network_says_what_frames_it_is_made_for():
    plain, timm, own = (torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)) for _ in range(3))
    timm.pretrained_cfg = {"input_size": (3, 160, 128), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    own.frame_size = 64

    assert made_for("net.py:make", plain) is None
    assert made_for("net.py:make", timm) == (160, 128)
    assert made_for("net.py:make", Normalised(own, (0.5,), (0.5,), 1)) == (64, 64)
    assert made_for("resnet-50", plain) == (224, 224)
    assert frame_channels(plain) == 1
    assert wanted_normalisation(timm) == "--mean 0.5 0.5 0.5 --std 0.25 0.25 0.25"
    assert wanted_normalisation(Normalised(timm, (0.5,), (0.25,), 1)) is None
    assert wanted_normalisation(plain) is None


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (torch.nn.Sequential(torch.nn.Conv2d(4, 2, 3)), "takes 4 channels; pictures have 3, or 1 where they are grey"),
        (torch.nn.Linear(3, 2), "has no convolution"),
    ],
)
def test_a_network_of_other_channels_is_refused(network, reason):
    with pytest.raises(NetworkError, match=reason):
        frame_channels(network)


def test_arrays_keep_their_own_size_whatever_the_network_is_made_for():
    from ecotta_rt.data import LabelledArrays

    arrays = LabelledArrays(np.zeros((4, 32, 32, 3), np.uint8), np.array([0, 1, 0, 1]), ("a", "b"))

    frame = choose_frame(options(network="resnet-20"), build_network("resnet-20"), arrays)

    assert frame == FrameSpec(3, 32, 32)


def test_mean_and_std_are_part_of_the_network_and_of_its_digest(tmp_path):
    (tmp_path / "net.py").write_text(NETWORK.format(channels=3), encoding="utf-8")
    torch.manual_seed(0)
    torch.save(open_network(f"{tmp_path / 'net.py'}:make").state_dict(), tmp_path / "net.pt")
    name, weights = f"{tmp_path / 'net.py'}:make", tmp_path / "net.pt"
    frames = torch.rand(2, 3, 8, 8)

    plain = open_network(name, checkpoint=weights).eval()
    wrapped = open_network(name, checkpoint=weights, mean=[0.1, 0.2, 0.3], std=[0.5]).eval()

    mean = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    torch.testing.assert_close(wrapped(frames), plain((frames - mean) / 0.5))
    assert {"normalise.mean", "normalise.std"} <= wrapped.state_dict().keys()
    with pytest.raises(UsageError, match="says itself how its frames are normalised"):
        open_network("net.safetensors", mean=[0.5], std=[0.5])
