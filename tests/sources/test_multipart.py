import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.errors import Unavailable
from ecotta_rt.sources import multipart
from ecotta_rt.sources.multipart import MOST_PART_BYTES, boundary_of, parts_of


def cut(content, pieces=(1 << 16,), boundary=b"frame"):
    """The parts of some content that comes in pieces of these sizes."""
    sizes, left = itertools.cycle(pieces), [content]

    def read():
        size = next(sizes)
        new, left[0] = left[0][:size], left[0][size:]
        return new

    return list(parts_of(read, boundary, lambda: 0.0))


def sent(bodies, *, length=True, line=b"\r\n", last=b"\r\n"):
    content = b""
    for body in bodies:
        content += b"--frame" + line + b"Content-Type: image/jpeg" + line
        content += (b"Content-Length: %d" % len(body) + line if length else b"") + line + body + last
    return content + b"--frame--" + line


BODIES = [b"\xff\xd8one\xff\xd9", b"", b"\xff\xd8" + 5000 * b"x" + b"\xff\xd9"]


def test_parts_are_cut_by_their_length_or_else_by_the_boundary(subtests):
    for line in (b"\r\n", b"\n"):
        with subtests.test("by length", line=line):
            assert cut(sent(BODIES, line=line)) == BODIES
        with subtests.test("by boundary", line=line):
            assert [body.removesuffix(b"\r\n") for body in cut(sent(BODIES, length=False, line=line))] == BODIES
    assert cut(b"hello\r\n" + sent(BODIES)) == BODIES, "with text before the first part"
    assert cut(sent(BODIES, last=b"")) == BODIES, "with no line break at the end of a body"
    assert cut(sent(BODIES)[:-5000]) == BODIES[:2], "a part that does not end is none"


@given(
    st.lists(st.binary(max_size=300).filter(lambda body: b"--frame" not in body), max_size=5),
    st.lists(st.integers(1, 97), min_size=1, max_size=5),
    st.booleans(),
)
def test_however_the_bytes_arrive_the_parts_are_the_same(bodies, pieces, length):
    content = sent(bodies, length=length)

    found = cut(content, pieces)

    assert found == cut(content)
    assert len(found) == len(bodies)
    assert all(one.startswith(body) for one, body in zip(found, bodies, strict=True))


@given(st.binary(max_size=2000), st.lists(st.integers(1, 64), min_size=1, max_size=4))
def test_any_bytes_are_parts_or_refused(content, pieces):
    with contextlib.suppress(Unavailable):
        assert all(isinstance(part, bytes) for part in cut(content, pieces, b"f"))


def test_nothing_is_read_without_a_limit(subtests):
    def endless(text, start=b""):
        pieces = itertools.chain([start or text], itertools.repeat(text))
        return lambda: next(pieces)

    head = b"--frame\r\nA: b\r\n"
    hostile = {
        "no boundary in 65536 bytes": endless(1000 * b"x"),
        "headers of a picture in 8192 bytes": endless(b"A: b\r\n", head),
        f"a picture in {MOST_PART_BYTES} bytes": endless(bytes(1 << 20), head + b"\r\n"),
        f"a picture of {10**9} bytes is announced": endless(b"x", head + b"Content-Length: 1000000000\r\n\r\n"),
    }
    for told, read in hostile.items():
        with subtests.test(told), pytest.raises(Unavailable, match=told):
            list(parts_of(read, b"frame", lambda: 0.0))


def test_a_picture_that_comes_a_byte_at_a_time_is_given_up():
    seconds = itertools.count()
    pieces = itertools.chain([b"--frame\r\n\r\n"], itertools.repeat(b"x"))

    with pytest.raises(Unavailable, match="a picture took longer than 60 s"):
        list(parts_of(lambda: next(pieces), b"frame", lambda: float(next(seconds))))


def test_a_boundary_is_found_however_it_is_written(subtests):
    for written in ("boundary=frame", 'boundary="--frame"', "charset=x; Boundary = --frame", "boundary=frame; x=y"):
        with subtests.test(written):
            assert boundary_of(f"multipart/x-mixed-replace; {written}") == b"frame"
    for written in ("", "; boundary=", "; boundary=--", "; boundary=" + 300 * "-"):
        with subtests.test(written), pytest.raises(Unavailable, match="no boundary between pictures"):
            boundary_of(f"multipart/x-mixed-replace{written}")
    assert len(boundary_of("x; boundary=" + 199 * "x")) < multipart._MOST_BOUNDARY


def test_text_before_the_first_part_that_comes_a_byte_at_a_time_is_given_up():
    seconds = itertools.count()

    with pytest.raises(Unavailable, match="a picture took longer than 60 s"):
        list(parts_of(lambda: b"x", b"frame", lambda: float(next(seconds))))
