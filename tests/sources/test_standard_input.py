import contextlib
import itertools
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.sources.newest import Newest
from ecotta_rt.sources.opening import open_source
from ecotta_rt.sources.query import Size
from ecotta_rt.sources.standard_input import InputOptions, StandardInput


def frames(content, pieces=1 << 16, **options):
    """The frames of some bytes that come in pieces of so many."""
    left = [content]

    def read(count):
        new, left[0] = left[0][: min(count, pieces)], left[0][min(count, pieces) :]
        return new

    return [frame.pixels for frame in StandardInput(InputOptions(**options), read, ManualClock())]


def ppm(pixels):
    height, width = pixels.shape[:2]
    return b"%s\n# by hand\n%d %d\n255\n" % (b"P5" if pixels.ndim == 2 else b"P6", width, height) + pixels.tobytes()


PICTURES = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.booleans(), st.integers(0, 255)).map(
        lambda one: np.full((one[0], one[1]) if one[2] else (one[0], one[1], 3), one[3], np.uint8)
    ),
    max_size=5,
)


@given(PICTURES, st.integers(1, 50), st.sampled_from([b"", b"\n", b" \n "]))
def test_pictures_with_headers_come_one_after_the_other_however_the_bytes_arrive(pictures, pieces, between):
    found = frames(between.join(ppm(one) for one in pictures) + between, pieces)

    assert [one.tolist() for one in found] == [one.tolist() for one in pictures]


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_frames_or_an_input_error(content, pieces):
    with contextlib.suppress(InputFileError):
        assert all(one.dtype == np.uint8 for one in frames(b"P6 " + content, pieces))


def test_blanks_before_a_picture_are_not_kept():
    pieces = itertools.chain(itertools.repeat(b" " * 65536, 300), [b"\n" + ppm(np.zeros((1, 2), np.uint8))])
    held = []

    def read(count):
        held.append(len(source._waiting))
        return next(pieces, b"")

    source = StandardInput(read=read, clock=ManualClock())

    assert [frame.pixels.shape for frame in source] == [(1, 2)]
    assert max(held) == 0


def test_bare_pixels_come_in_each_format(subtests):
    rgb = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    size = Size(4, 2)
    for form, content in {"rgb24": rgb, "bgr24": rgb[..., ::-1]}.items():
        with subtests.test(form):
            found = frames(2 * content.tobytes(), 5, size=size, format=form)
            assert [one.tolist() for one in found] == 2 * [rgb.tolist()]
    grey = np.arange(8, dtype=np.uint8).reshape(2, 4)
    assert frames(grey.tobytes(), size=size, format="gray")[0].tolist() == grey.tolist()
    planes = np.full(12, 128, np.uint8)
    planes[:8] = 235
    assert frames(planes.tobytes(), size=size, format="yuv420p")[0].tolist() == np.full((2, 4, 3), 255).tolist()


def test_what_is_cut_short_or_has_no_header_is_told_with_what_to_write(subtests):
    cut = ppm(np.zeros((4, 4, 3), np.uint8))[:-1]
    told = {
        "frame 0: it ends after 47 of 48 bytes of pixels": (cut, {}),
        "frame 1: it ends after 2 of 12 bytes": (14 * b"x", {"size": Size(2, 2)}),
        "frame 0: no header of a PPM or PGM picture.*image2pipe": (b"\xff\xd8\xff\xe0 a JPEG", {}),
        "expected 1 to 33554432": (b"P6 100000 100000 255 x", {}),
        "65536 levels": (b"P6 1 1 65535 xxxxxx", {}),
        "no header": (5000 * b"P6 #", {}),
    }
    for what, (content, options) in told.items():
        with subtests.test(what), pytest.raises(InputFileError, match=what):
            frames(content, **options)


def test_sizes_that_cannot_be_are_usage_errors(subtests):
    for text in ("stdin:?size=9999x9999", "stdin:?size=3x3&format=yuv420p", "stdin:?format=gray", "stdin:?format=jpeg"):
        with subtests.test(text), pytest.raises(UsageError):
            open_source(text)


def test_the_newest_frame_is_answered_unless_every_one_is_asked_for():
    assert type(open_source("-")) is Newest
    assert type(open_source("stdin:?size=2x2")) is Newest
    assert type(open_source("stdin:?every=yes&size=2x2")) is StandardInput


def test_what_ffmpeg_writes_into_a_pipe_is_read():
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("no ffmpeg here")
    script = """
from ecotta_rt.sources.opening import open_source
for frame in open_source("stdin:?every=yes"):
    print(frame.index, frame.pixels.shape, flush=True)
"""
    write = f"{ffmpeg} -v error -f lavfi -i testsrc=size=32x24:rate=10:duration=0.5 -f image2pipe -vcodec ppm -"
    with subprocess.Popen(write.split(), stdout=subprocess.PIPE) as film:
        told = subprocess.run(
            [sys.executable, "-c", script], stdin=film.stdout, stdout=subprocess.PIPE, text=True, check=True
        )

    assert told.stdout.splitlines() == [f"{index} (24, 32, 3)" for index in range(5)]
