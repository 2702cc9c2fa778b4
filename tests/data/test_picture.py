import io
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

from ecotta_rt.errors import BadFrames
from ecotta_rt.sources.picture import picture_size, read_picture

Image = pytest.importorskip("PIL.Image")

PATIENCE_S = 30  # only a test that fails waits

# A 2 x 3 picture as people see it, and how a camera that was held otherwise stores it, by Exif orientation.
UPRIGHT = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.swapaxes(0, 1),
    6: UPRIGHT.swapaxes(0, 1)[::-1],
    7: UPRIGHT.swapaxes(0, 1)[::-1, ::-1],
    8: UPRIGHT.swapaxes(0, 1)[:, ::-1],
}


def test_pictures_are_turned_upright_by_their_exif_orientation(tmp_path, subtests):
    for orientation in STORED:
        for name in ["a.png", "a.tif"]:
            with subtests.test(orientation=orientation, name=name):
                exif = Image.Exif()
                exif[0x0112] = orientation
                stored = np.ascontiguousarray(STORED[orientation])
                Image.fromarray(stored).save(tmp_path / name, exif=exif)

                assert read_picture(tmp_path / name).tolist() == UPRIGHT.tolist()
                assert picture_size(tmp_path / name) == (2, 3)


def test_a_picture_is_read_by_what_is_in_it_not_by_its_name(tmp_path, subtests):
    for name in ["a.png", "a.bmp", "a.tif", "a.webp", "a.ppm", "a.gif", "a.jpg", "wrong.txt"]:
        with subtests.test(name=name):
            kind = {"jpg": "JPEG", "txt": "PNG", "tif": "TIFF"}.get(name[-3:])
            options = {"lossless": True} if name == "a.webp" else {}
            pixels = np.full((4, 5, 3), (200, 30, 30), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name, format=kind, **options)

            picture = read_picture(tmp_path / name)

            assert picture.shape == (4, 5, 3)
            assert np.abs(picture.astype(int) - pixels).max() <= 2  # of JPEG


def test_grey_pictures_stay_grey_and_of_16_bits_the_upper_8_are_taken(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 256 + 99).save(tmp_path / "deep.png")
    Image.fromarray(grey).convert("LA").save(tmp_path / "alpha.png")

    for name in ("grey.png", "deep.png", "alpha.png"):
        assert read_picture(tmp_path / name).tolist() == grey.tolist()


def test_palettes_and_transparency_become_colours(tmp_path, make_picture):
    pixels = np.full((3, 3, 3), (10, 20, 30), np.uint8)
    Image.fromarray(pixels).convert("P").save(tmp_path / "palette.png", transparency=b"\x00\x01")
    Image.fromarray(np.dstack([pixels, np.zeros((3, 3), np.uint8)])).save(tmp_path / "clear.png")

    for name in ("palette.png", "clear.png"):
        assert read_picture(tmp_path / name).shape == (3, 3, 3)


def test_damaged_files_are_refused_with_what_is_wrong(tmp_path, make_picture):
    make_picture(tmp_path / "whole.jpg", (64, 64))
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "torn.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture")
    # Handed to Ghostscript, this would be a program that runs.
    (tmp_path / "program.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n")

    for name, why in {
        "torn.jpg": "damaged: image file is truncated",
        "empty.jpg": "no picture of the formats we read",
        "notes.txt": "no picture of the formats we read",
        "program.eps": "no picture of the formats we read",
        "missing.jpg": "cannot be read",
    }.items():
        with pytest.raises(BadFrames, match=why):
            read_picture(tmp_path / name)


def test_a_small_file_that_claims_to_be_huge_is_refused_before_it_is_decoded(tmp_path):
    bomb = io.BytesIO()
    Image.new("1", (8_000, 8_000)).save(bomb, "PNG")
    (tmp_path / "bomb.png").write_bytes(bomb.getvalue())

    with pytest.raises(BadFrames, match="larger than 33554432 pixels"):
        read_picture(tmp_path / "bomb.png")


def test_what_pillow_puts_up_with_is_no_warning(tmp_path):
    Image.new("1", (10_000, 9_000)).save(tmp_path / "large.png")

    with pytest.raises(BadFrames, match="larger than 33554432 pixels"):  # pytest makes a warning another error
        read_picture(tmp_path / "large.png")


def test_a_picture_that_does_not_come_delays_no_other(make_picture, tmp_path):
    make_picture(tmp_path / "a.jpg", (8, 8))
    content = (tmp_path / "a.jpg").read_bytes()
    begun, goes_on = Event(), Event()

    class Hanging(io.BytesIO):
        def read(self, *args):
            begun.set()
            assert goes_on.wait(PATIENCE_S)
            return super().read(*args)

    with ThreadPoolExecutor() as readers:
        slow = readers.submit(read_picture, Hanging(content))
        try:
            assert begun.wait(PATIENCE_S)
            other = readers.submit(read_picture, io.BytesIO(content)).result(PATIENCE_S)
            assert not slow.done()
        finally:
            goes_on.set()

    assert slow.result().tolist() == other.tolist()
