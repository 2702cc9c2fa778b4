import io
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.errors import BadFrames, InputFileError, Unavailable
from ecotta_rt.sources import image_file
from ecotta_rt.sources.image_file import read_image
from ecotta_rt.sources.images import Images
from ecotta_rt.sources.ppm import parse_netpbm

pytest.importorskip("PIL", reason="Pillow is not installed: extra `pictures`")

NEEDS_AV = "PyAV is not installed: extra `camera`"


def noise(height=4, width=6):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def ppm(pixels):
    height, width, _ = pixels.shape
    return b"P6\n# by hand\n%d %d\n255\n" % (width, height) + pixels.tobytes()


def encoded(pixels, codec="png", pix_fmt="rgb24"):
    """A still picture, as FFmpeg writes it."""
    av = pytest.importorskip("av", reason=NEEDS_AV)
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as container:
        stream = container.add_stream(codec, rate=1)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], pix_fmt
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


def test_pictures_come_in_natural_order_and_other_files_do_not(tmp_path):
    for name in ("f10.ppm", "f9.ppm", "F1.ppm", "f2.PPM", "a.ppm", "2.ppm"):
        (tmp_path / name).write_bytes(ppm(noise()))
    for name in ("labels.txt", "README.md", ".hidden.ppm"):
        (tmp_path / name).write_text("not a picture")
    (tmp_path / "folder.ppm").mkdir()

    frames = list(Images(tmp_path))

    assert Images(tmp_path).left_out == {".txt": 1, ".md": 1, "folders": 1}
    assert [frame.name for frame in frames] == ["2.ppm", "F1.ppm", "a.ppm", "f2.PPM", "f9.ppm", "f10.ppm"]
    assert [frame.index for frame in frames] == list(range(6))


def test_a_single_picture_is_a_stream_of_one(tmp_path):
    np.save(tmp_path / "one.npy", noise())

    (frame,) = Images(tmp_path / "one.npy")

    assert np.array_equal(frame.pixels, noise())


def test_a_picture_that_cannot_be_read_is_refused_and_the_others_follow(tmp_path):
    (tmp_path / "1.ppm").write_bytes(ppm(noise()))
    (tmp_path / "2.ppm").write_bytes(ppm(noise())[:-1])
    np.save(tmp_path / "3.npy", noise().astype(np.float32))
    (tmp_path / "4.ppm").write_bytes(ppm(noise()))

    first, second, third, fourth = Images(tmp_path)

    assert np.array_equal(first.pixels, fourth.pixels)
    assert "truncated PPM or PGM: 71 bytes of pixels, 6 x 4 take 72" in second.why
    assert "float32 of shape [4, 6, 3], expected uint8 [H, W, 3]" in third.why
    assert (second.index, third.index, fourth.index) == (1, 2, 3)


def test_a_folder_without_pictures_is_refused_with_the_names_we_read(tmp_path):
    with pytest.raises(InputFileError, match=r"no picture; names have to end in .npy, .pgm, .ppm, .*\.png"):
        Images(tmp_path)


def test_a_folder_of_class_folders_is_refused_with_up_to_three_that_have_pictures(tmp_path):
    for name in ["empty", "class-10", "class-9", "class-1", "class-2"]:
        (tmp_path / name).mkdir()
        if name != "empty":
            (tmp_path / name / "1.ppm").write_bytes(ppm(noise()))

    with pytest.raises(InputFileError) as caught:
        Images(tmp_path)

    assert str(caught.value) == (
        f"{tmp_path}: no picture; folders inside it are not entered, but some have pictures "
        f"(class-1, class-2, class-9, ...); give one, as {tmp_path / 'class-1'}"
    )


def test_without_pillow_plain_pictures_are_read_and_others_name_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    np.save(tmp_path / "1.npy", noise())
    (tmp_path / "2.ppm").write_bytes(ppm(noise()))
    assert len(list(Images(tmp_path))) == 2
    (tmp_path / "3.png").write_bytes(b"")

    with pytest.raises(Unavailable, match=r"pip install '\.\[pictures\]'"):
        Images(tmp_path)


def test_formats_without_loss_come_out_as_they_went_in(tmp_path, subtests):
    for codec, pix_fmt in [("png", "rgb24"), ("png", "rgba"), ("bmp", "bgr24"), ("tiff", "rgb24")]:
        with subtests.test(codec=codec, pix_fmt=pix_fmt):
            path = tmp_path / "misnamed.jpg"  # what counts is the content
            path.write_bytes(encoded(noise(), codec, pix_fmt))

            assert np.array_equal(read_image(path), noise())


@pytest.mark.parametrize(("codec", "pix_fmt"), [("mjpeg", "yuvj420p"), ("libwebp", "yuv420p")])
def test_formats_with_loss_keep_colours(tmp_path, codec, pix_fmt):
    colour = np.array([200, 30, 90], np.uint8)
    (tmp_path / "p.jpg").write_bytes(encoded(np.tile(colour, (32, 48, 1)), codec, pix_fmt))

    pixels = read_image(tmp_path / "p.jpg")

    assert pixels.shape == (32, 48, 3)
    assert np.abs(pixels.astype(int) - colour).max() <= 6  # of 255; webp loses most


def test_a_truncated_picture_is_refused(tmp_path, subtests):
    for share in [0.3, 0.9]:
        for codec in [("png", "rgb24"), ("mjpeg", "yuvj420p")]:
            with subtests.test(share=share, codec=codec):
                whole = encoded(noise(64, 64), *codec)
                (tmp_path / "p.png").write_bytes(whole[: int(share * len(whole))])

                with pytest.raises(BadFrames):
                    read_image(tmp_path / "p.png")


def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    """A few kilobytes of PNG can unfold to gigabytes."""
    (tmp_path / "bomb.png").write_bytes(encoded(np.zeros((300, 300, 3), np.uint8)))
    for module in ("picture", "image_file", "ppm"):
        monkeypatch.setattr(sys.modules[f"ecotta_rt.sources.{module}"], "MAX_PIXELS", 80_000)
    np.save(tmp_path / "bomb.npy", np.zeros((300, 300, 3), np.uint8))

    for name in ("bomb.png", "bomb.npy"):
        with pytest.raises(BadFrames, match="80000 pixels"):
            read_image(tmp_path / name)


def test_what_is_no_picture_is_refused_and_read_by_nobody(tmp_path, subtests):
    for content in [b"", b"#EXTM3U\nhttp://example.invalid/a.ts\n", b"<svg/>", b"\x00" * 64]:
        with subtests.test(content=content):
            (tmp_path / "p.png").write_bytes(content)

            with pytest.raises(BadFrames, match="no picture of the formats"):
                read_image(tmp_path / "p.png")


def test_a_photograph_comes_upright_however_the_camera_was_held(tmp_path, subtests):
    for orientation in [1, 3, 6, 8]:
        with subtests.test(orientation=orientation):
            from PIL import Image

            upright = np.zeros((32, 48, 3), np.uint8)
            upright[:16, :16] = 255
            stored = np.rot90(upright, {1: 0, 3: 2, 6: 1, 8: 3}[orientation])
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "p.jpg", exif=exif)

            (frame,) = Images(tmp_path)

            assert frame.pixels.shape == upright.shape
            assert np.abs(frame.pixels.astype(int) - upright).mean() < 2  # of 255; JPEG has losses


def test_a_grey_picture_stays_grey(tmp_path):
    from PIL import Image

    Image.fromarray(noise()[:, :, 0]).save(tmp_path / "1.png")
    np.save(tmp_path / "2.npy", noise()[:, :, 0])
    (tmp_path / "3.pgm").write_bytes(b"P5 6 4 255\n" + noise()[:, :, 0].tobytes())

    shown = [frame.pixels for frame in Images(tmp_path)]

    assert len(shown) == 3
    assert all(np.array_equal(pixels, noise()[:, :, 0]) for pixels in shown)


def test_a_file_that_has_gone_or_is_too_long_is_refused(tmp_path, monkeypatch):
    with pytest.raises(BadFrames, match="cannot be read"):
        read_image(tmp_path / "gone.png")

    monkeypatch.setattr(image_file, "_MAX_BYTES", 10)
    (tmp_path / "long.ppm").write_bytes(ppm(noise()))
    with pytest.raises(BadFrames, match="longer than 10 bytes"):
        read_image(tmp_path / "long.ppm")


@given(height=st.integers(1, 9), width=st.integers(1, 9), comment=st.binary(max_size=5), data=st.data())
def test_a_ppm_says_what_was_put_in_whatever_stands_between(height, width, comment, data):
    pixels = np.frombuffer(data.draw(st.binary(min_size=3 * height * width, max_size=3 * height * width)), np.uint8)
    note = b"#" + comment.translate(None, b"\r\n") + b"\n"
    content = b"P6" + note + b"%d" % width + b"\t" + note + b"%d\n255 " % height + pixels.tobytes()

    assert np.array_equal(parse_netpbm(content), pixels.reshape(height, width, 3))


@given(st.binary(max_size=60), st.sampled_from([b"", b"P6", b"P6 3 2 ", b"P6 3 2 255 ", b"P6 99999 99999 255 "]))
def test_whatever_else_is_in_a_ppm_is_a_frame_or_a_refusal(content, start):
    try:
        pixels = parse_netpbm(start + content)
    except BadFrames:
        return
    assert pixels.ndim == 3


def test_a_ppm_of_another_kind_is_refused(subtests):
    for content in [
        b"P6 0 4 255 ",
        b"P6 2 2 65535 " + bytes(24),
        b"P6 999999999 999999999 255 ",
        b"P4 8 1 a",
        b"P5 2 1 255 a",
    ]:
        with subtests.test(content=content), pytest.raises(BadFrames):
            parse_netpbm(content)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_a_damaged_npy_is_a_frame_or_a_refusal(tmp_path_factory, junk, at):
    path = tmp_path_factory.mktemp("npy") / "p.npy"
    np.save(path, noise())
    content = bytearray(path.read_bytes())
    content[at : at + len(junk)] = junk
    path.write_bytes(content)

    try:
        pixels = read_image(path)
    except BadFrames:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
