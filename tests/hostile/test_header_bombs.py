"""Small files that ask for much: each is refused in little memory, whatever it says of itself."""

import tracemalloc

import numpy as np
import pytest

from ecotta_rt.errors import BadFrames, ConfigurationError, InputFileError
from ecotta_rt.files.json_text import MAX_TOKENS, parse_json
from ecotta_rt.files.npy import map_npy
from ecotta_rt.files.toml_text import parse_toml
from ecotta_rt.sources.image_file import read_image
from ecotta_rt.sources.ppm import parse_netpbm
from ecotta_rt.sources.video import FORMATS, VideoFile
from ecotta_rt.state import MAX_HEADER_BYTES, AdaptState

MIB = 1 << 20


def refused(error, reason, read, most_mib=2):
    """`read` raises, and has taken little memory until then."""
    tracemalloc.start()
    try:
        with pytest.raises(error, match=reason):
            read()
        assert tracemalloc.get_traced_memory()[1] < most_mib * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("filling", [b"\n", b" ", b"#\n", b"# a comment", b"9"])
def test_a_picture_with_an_endless_header_is_refused(filling):
    content = b"P6 4" + filling * (10 * MIB // len(filling))

    refused(BadFrames, "no binary PPM or PGM header .* in the first 4096 bytes", lambda: parse_netpbm(content))


def test_a_picture_with_a_header_as_long_as_it_may_be_is_read():
    header = b"P6 1 1 " + b"#" * 4000 + b"\n255 "

    assert parse_netpbm(header + b"abc").tolist() == [[[97, 98, 99]]]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("read", [map_npy, read_image])
def test_an_array_with_an_endless_header_is_refused_before_that_is_read(tmp_path, version, read):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        file.write(b"\x93NUMPY" + bytes([version, 0]) + (1 << 30).to_bytes(4, "little"))
        file.truncate(1 << 30)  # sparse: takes no space

    error = BadFrames if read is read_image else InputFileError
    refused(error, "header of 1073741824 bytes, more than 4096", lambda: read(path))


def test_an_array_of_an_older_version_is_read(tmp_path):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.arange(3), version=(2, 0))

    assert map_npy(path).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "text",
    [
        b"a" + b".a" * 32_000 + b" = 1",
        b'a."b" .' + b" a ." * 10_000 + b"b = 1",
        b"[a" + b".a" * 20_000 + b"]",
        b"a = " + b"[" * 30_000,
        b"a = " + b"{a = " * 9 + b"1" + b"}" * 9,
        b'b = "\\"x"\na' + b".a" * 8 + b" = 1",
    ],
)
def test_toml_that_is_nested_deeply_is_refused_before_it_is_parsed(text):
    refused(ConfigurationError, r"x.toml, line \d+: nested more than 8 deep", lambda: parse_toml(text, "x.toml"))


@pytest.mark.parametrize(
    "text",
    [
        b'a = "https://a.b.c.d.e.f.g.h.i.j"',
        b"a = '''a.b.c.d.e.f.g.h.i.j [[[[[[[[[['''",
        b"# a.b.c.d.e.f.g.h.i.j {{{{{{{{{{",
        b'a = "\\"a.b.c.d.e.f.g.h.i.j"',
        b"a.b.c.d.e.f.g.h = [1.5]",
        b"a = [[[[[[[[]]]]]]]]",
    ],
)
def test_toml_in_which_only_a_text_looks_deep_is_read(text):
    assert [*parse_toml(text, "x.toml").values] == ["a"][: not text.startswith(b"#")]


@pytest.mark.parametrize(
    "text", [b'"' * 60_000, b'"\\' * 30_000, b"'" * 60_001, b'"""a' * 15_000, b"a" * 65_000, b"a ." * 7 + b"a" * 60_000]
)
def test_toml_that_never_ends_is_refused_at_once(text):
    refused(ConfigurationError, "not TOML", lambda: parse_toml(text, "x.toml"))


def test_json_that_is_nested_deeply_is_refused_before_it_is_parsed():
    text = b'{"a":' * 700_000

    refused(InputFileError, "nested too deeply, more than 16 deep", lambda: parse_json(text, "m"))
    assert parse_json(b'{"[[[[[[[[[[[[[[[[[[[[": "]]\\"[[[[[[[[[[[[[[[[[[[["}', "m").values["[" * 20]


@pytest.mark.parametrize("value", [b"[],", b'"a",'])
def test_json_of_more_values_than_a_manifest_has_is_refused_before_it_is_parsed(value):
    text = b'{"a": [' + value * (MAX_TOKENS + 1) + b"]}"

    with pytest.raises(InputFileError, match=f"more than {MAX_TOKENS} texts, commas and brackets"):
        parse_json(text, "m")


def test_a_state_with_an_endless_header_is_refused_before_that_is_read():
    content = (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * (MAX_HEADER_BYTES + 1)

    refused(
        InputFileError,
        "header of 4194305 bytes; a state's has at most 4194304",
        lambda: AdaptState.from_bytes(content, "s"),
    )


def test_a_state_that_is_mostly_holes_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(b"\x08\0\0\0\0\0\0\0{}      ")
        file.truncate(1 << 30)

    refused(InputFileError, r"1073741824 bytes, of which only \d+ were ever written", lambda: AdaptState.load(path))


def test_a_state_that_is_longer_than_asked_for_is_refused_before_it_is_read(tmp_path):
    state = AdaptState({"a": np.ones(3, np.float32)}, {"a": np.ones(3, np.float32)}, {}, "digest")
    path = tmp_path / "a.safetensors"
    state.save(path)

    assert AdaptState.load(path, most_bytes=state.most_file_bytes).compare(state) == {
        "parameters/a": 0,
        "momentum/a": 0,
    }
    path.write_bytes(bytes(state.most_file_bytes + 1))
    refused(InputFileError, "is it of another network", lambda: AdaptState.load(path, most_bytes=state.most_file_bytes))


@pytest.mark.parametrize("name", ["film.mp4", "film.ffconcat", "film.m3u8"])
@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile {0}\nfile {0}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{0}\n#EXTINF:5,\n{0}\n#EXT-X-ENDLIST\n",
        "v=0\nm=video 9 RTP/AVP 96\n",
    ],
)
def test_a_list_of_films_is_refused_whether_or_not_it_names_itself(tmp_path, name, text):
    pytest.importorskip("av")
    (tmp_path / name).write_text(text.format(name))

    with pytest.raises(InputFileError, match="no list of other files"):
        next(iter(VideoFile(tmp_path / name)))


def test_a_name_with_a_pattern_is_one_file_and_not_many(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "frame%d.png").write_bytes(b"no picture")
    (tmp_path / "frame1.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    with pytest.raises(InputFileError, match="expected a film"):
        next(iter(VideoFile(tmp_path / "frame%d.png")))


def test_no_format_of_films_is_a_list_of_other_files():
    assert not {*FORMATS} & {"hls", "concat", "dash", "sdp", "image2", "vobsub", "webm_dash_manifest", "imf", "mlv"}
