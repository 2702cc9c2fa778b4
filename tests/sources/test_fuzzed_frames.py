"""Frames that nobody should send: each is answered or refused with a reason, and the stream goes on after it."""

import io
from collections import Counter

import numpy as np
import pytest

from ecotta_rt.errors import EcottaError
from ecotta_rt.events import Answer, BatchAnswered, Refusal
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.runtime.answering import Answering
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.runtime.ladder import Ladder
from ecotta_rt.sources.image_file import IMAGE_SUFFIXES
from ecotta_rt.sources.images import Images
from ecotta_rt.sources.multipart import parts_of
from ecotta_rt.sources.standard_input import InputOptions, StandardInput
from ecotta_rt.sources.video import VideoFile

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: extra `pictures`")
av = pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")

DTYPES = (np.uint8, np.int8, np.uint16, np.int64, np.float32, np.float64, np.bool_, np.complex64, object)


def array(rng, folder):
    """Of any dtype and shape, with NaN, without a pixel, with one, or claiming to have a thousand million."""
    shape = tuple(int(side) for side in rng.choice([0, 1, 2, 3, 4, 7, 33], rng.integers(0, 5)))
    pixels = rng.integers(0, 256, shape).astype(DTYPES[rng.integers(len(DTYPES))])
    if pixels.dtype.kind == "f" and pixels.size:
        pixels.flat[0] = np.nan
    huge = np.broadcast_to(np.uint8(0), ((1 << 20, 1 << 10, 3), (1, 1 << 24, 3), (1 << 24, 1))[rng.integers(3)])
    strange = ("no array", None, [[0, 0, 0]], huge, np.zeros((5, 5, 3), np.uint8)[::-1, ::-1, ::-1])
    return [Frame(pixels, 0, 0.0), Frame(strange[rng.integers(len(strange))], 1, 0.0)]


def picture(rng, folder):
    """A file of a picture, cut short, with bytes changed, or with the name of another kind."""
    sound = Image.fromarray(rng.integers(0, 256, (int(rng.integers(1, 40)), int(rng.integers(1, 40)), 3), np.uint8))
    file = io.BytesIO()
    sound.save(file, ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")[rng.integers(7)])
    path = folder / f"picture{IMAGE_SUFFIXES[rng.integers(len(IMAGE_SUFFIXES))]}"
    path.write_bytes(damaged(rng, file.getvalue()))
    return Images(path, ManualClock())


def npy(rng, folder):
    file = io.BytesIO()
    np.save(file, rng.integers(0, 256, (4, 4, 3), np.uint8))
    (folder / "array.npy").write_bytes(damaged(rng, file.getvalue()))
    return Images(folder / "array.npy", ManualClock())


def stream(rng, folder):
    """What comes of a camera that speaks HTTP."""
    from ecotta_rt.sources.http_camera import _decoded
    from ecotta_rt.sources.pyav import Picture

    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(file, "JPEG")
    body = file.getvalue()
    content = b"--f\r\nContent-Length: %d\r\n\r\n%s\r\n--f\r\n\r\n%s\r\n--f--" % (len(body), body, body)
    left = [damaged(rng, content), b""]
    for index, part in enumerate(parts_of(lambda: left.pop(0) if left else b"", b"f", lambda: 0.0)):
        shown = _decoded(part)
        yield Frame(shown.pixels, index, 0.0) if isinstance(shown, Picture) else Refusal(index, "", shown.why)


def pipe(rng, folder):
    content = b"".join(b"P6 4 4 255 " + rng.integers(0, 256, 48, np.uint8).tobytes() for _ in range(3))
    left = [damaged(rng, content)]
    return StandardInput(InputOptions(), lambda count: left.pop() if left else b"", ManualClock())


def film(rng, folder):
    """H.264 with bytes changed."""
    path = folder / "film.mkv"
    path.write_bytes(damaged(rng, sound_film(folder), after=300))
    return VideoFile(path, clock=ManualClock())


FILM = []


def sound_film(folder):
    if not FILM:
        path = folder / "sound.mkv"
        with av.open(path, "w") as container:
            track = container.add_stream("libx264", rate=10, options={"g": "4"})
            track.width, track.height, track.pix_fmt = 32, 32, "yuv420p"
            for level in range(0, 200, 25):
                shown = np.full((32, 32, 3), level, np.uint8)
                container.mux(track.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
            container.mux(track.encode(None))
        FILM.append(path.read_bytes())
    return FILM[0]


def damaged(rng, content, after=0):
    """Cut short, or with some bytes changed, or sound."""
    kind, content = rng.integers(4), bytearray(content)
    if kind == 0:
        return bytes(content[: rng.integers(len(content) + 1)])
    for _ in range((0, 1, 4, 40)[kind]):
        content[rng.integers(min(after, len(content) - 1), len(content))] = rng.integers(256)
    return bytes(content)


KINDS = (array, picture, npy, stream, pipe, film)


def outcomes(count, answering, folder):
    """Send so many; what came of them, by kind."""
    seen, told = Counter(), []
    for number in range(count):
        rng = np.random.default_rng(number)
        kind = KINDS[number % len(KINDS)]
        try:
            for item in kind(rng, folder):
                events = list(answering.take(item))
                assert [type(event) for event in events] in ([Refusal], [BatchAnswered, Answer]), events
                seen[kind.__name__, type(events[-1]).__name__] += 1
                told.append(events[-1].why)
        except EcottaError as error:  # the source cannot go on: its file is cut off, its pipe out of step
            seen[kind.__name__, "ended"] += 1
            told.append(str(error))
    assert all(0 < len(why) < 600 for why in told)
    return seen


@pytest.fixture
def answering(tiny):
    engine = Runtime.load(tiny.bundle("running"), batch=1)
    return Answering(engine, Ladder(engine, None), resize="stretch")


def answered_as_ever(answering, tiny):
    """A sound frame after all that."""
    answer = list(answering.take(Frame(tiny.frames(1)[0], 0, 0.0)))[-1]
    return isinstance(answer, Answer) and np.isfinite(answer.probability)


def test_frames_that_nobody_should_send_are_answered_or_refused(answering, tiny, tmp_path):
    seen = outcomes(90, answering, tmp_path)

    assert {kind for kind, _ in seen} == {kind.__name__ for kind in KINDS}
    assert {outcome for _, outcome in seen} == {"Answer", "Refusal", "ended"}
    assert answered_as_ever(answering, tiny)


@pytest.mark.slow
def test_a_thousand_of_them(answering, tiny, tmp_path):
    seen = outcomes(6000, answering, tmp_path)

    assert all(sum(count for (kind, _), count in seen.items() if kind == one.__name__) >= 1000 for one in KINDS)
    assert answered_as_ever(answering, tiny)
