"""Bundles that somebody damaged, by accident or not. Each is refused with file, member and reason."""

import json
import os
import struct
import zipfile
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.bundle import MAX_BUNDLE_BYTES, MAX_GRAPHS, MAX_MANIFEST_BYTES, Manifest, read_bundle
from ecotta_rt.bundle.tables import tables_content
from ecotta_rt.errors import InputFileError
from ecotta_rt.state import AdaptState

LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
WEIGHTS = b"weights.bin"


def refused(path, reason, read_all):
    with pytest.raises(InputFileError, match=reason) as refusal:
        read_all(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_the_bundle_we_damage_is_sound(small, parts, read_all):
    read_all(small)
    read_all(parts.pack())


# Damage that knows nothing of the format.


@given(cut=st.floats(0, 1, exclude_max=True))
def test_it_is_refused_wherever_it_ends(small, tmp_path_factory, read_all, cut):
    whole = small.read_bytes()
    path = tmp_path_factory.mktemp("hostile") / "h.ecotta"
    path.write_bytes(whole[: int(cut * len(whole))])

    refused(path, ".", read_all)


def unread_bytes(content):
    """Where a zip says what nobody looks at: its version, times, attributes, and the alignment in the padding."""
    unread = set()
    for mark, ranges in ((LOCAL, [(4, 6), (10, 14)]), (CENTRAL, [(4, 8), (12, 16), (34, 42)])):
        at = content.find(mark)
        while at >= 0:
            unread |= {at + offset for start, stop in ranges for offset in range(start, stop)}
            at = content.find(mark, at + 1)
    padding_at = content.rindex(WEIGHTS, 0, content.index(CENTRAL)) + len(WEIGHTS)  # graphs say the name too
    return unread | {padding_at + 4, padding_at + 5}


def test_no_byte_can_be_changed_without_being_noticed(small, tmp_path, read_all):
    """Every third byte, and all of those that make the container."""
    whole = small.read_bytes()
    padding = range(4200, 8100)  # zeros before the weights, of which a few are enough
    places = {*range(0, len(whole), 3), *range(64), *range(len(whole) - 500, len(whole))} - {*padding} | {4500, 8000}
    unnoticed = set()
    path = tmp_path / "h.ecotta"
    for place in places - unread_bytes(whole):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            read_all(path)
        except InputFileError:
            continue
        unnoticed.add(place)

    assert unnoticed == set()


@given(content=st.binary(max_size=300))
def test_any_bytes_after_the_beginning_of_a_zip_are_refused(tmp_path_factory, read_all, content):
    path = tmp_path_factory.mktemp("hostile") / "h.ecotta"
    path.write_bytes(LOCAL + content)

    refused(path, ".", read_all)


# The container.


def test_a_file_that_is_not_there_or_not_a_file_is_told(tmp_path, read_all):
    refused(tmp_path / "none.ecotta", "no such file", read_all)
    refused(tmp_path, "it is a folder", read_all)


def test_a_file_of_more_than_a_gigabyte_is_not_even_looked_at(tmp_path, read_all):
    path = tmp_path / "h.ecotta"
    with path.open("wb") as file:
        file.truncate(MAX_BUNDLE_BYTES + 1)  # sparse: takes no space

    refused(path, f"{MAX_BUNDLE_BYTES + 1} bytes, more than the {MAX_BUNDLE_BYTES} allowed", read_all)


def patched(small, path, mark, member, offset, value):
    """The small bundle with bytes replaced in the local header or directory entry of a member."""
    content = bytearray(small.read_bytes())
    name_at = {LOCAL: 30, CENTRAL: 46, END: None}[mark]
    at = content.rfind(mark)
    while name_at is not None and content[at + name_at :][: len(member)] != member:
        at = content.rfind(mark, 0, at)
    content[at + offset : at + offset + len(value)] = value
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("mark", "member", "offset", "value", "reason"),
    [
        (CENTRAL, WEIGHTS, 8, b"\x01\x00", "'weights.bin' is encrypted"),
        (CENTRAL, WEIGHTS, 8, b"\x41\x00", "'weights.bin' is encrypted"),
        (CENTRAL, WEIGHTS, 8, b"\x08\x00", "'weights.bin' has flags 0x0008"),
        (CENTRAL, WEIGHTS, 10, b"\x08\x00", "'weights.bin' is compressed .method 8."),
        (CENTRAL, WEIGHTS, 16, b"\1\2\3\4", "'weights.bin': its local header and the directory disagree"),
        (CENTRAL, WEIGHTS, 20, b"\x10\x00\x00\x00", "'weights.bin' has 16 bytes and claims 72"),
        (CENTRAL, WEIGHTS, 20, b"\xff" * 8, "'weights.bin': its local header and the directory disagree"),
        (CENTRAL, WEIGHTS, 28, b"\x00\x00", "entry at its byte .* is damaged"),
        (CENTRAL, WEIGHTS, 28, b"\xff\xff", "entry at its byte .* is damaged"),
        (CENTRAL, WEIGHTS, 30, b"\x01\x00", "'weights.bin' has an extra field or a comment"),
        (CENTRAL, WEIGHTS, 32, b"\x01\x00", "'weights.bin' has an extra field or a comment"),
        (CENTRAL, WEIGHTS, 40, b"\xff\xa1", "'weights.bin' is no plain file .mode 0o120777."),
        (CENTRAL, WEIGHTS, 42, b"\x00\x00\x00\x00", "'weights.bin' begins at byte 0, expected .*: overlapping"),
        (CENTRAL, WEIGHTS, 46, b"Weights.bin", "its local header and the directory disagree"),
        (LOCAL, WEIGHTS, 0, b"PK\7\x08", "no local header for member 'weights.bin'"),
        (LOCAL, WEIGHTS, 6, b"\x01\x00", "its local header and the directory disagree"),
        (LOCAL, WEIGHTS, 8, b"\x08\x00", "its local header and the directory disagree"),
        (LOCAL, WEIGHTS, 22, b"\x10\x00\x00\x00", "its local header and the directory disagree"),
        (LOCAL, WEIGHTS, 28, b"\xff\xff", "an extra field that is more than padding|would reach"),
        (LOCAL, WEIGHTS, 30, b"Weights.bin", "its local header and the directory disagree"),
        (LOCAL, WEIGHTS, 41, b"\x75\x70", "an extra field that is more than padding"),
        (LOCAL, WEIGHTS, 60, b"hidden", "an extra field that is more than padding"),
        (END, b"", 4, b"\x01\x00", "several disks"),
        (END, b"", 8, b"\x04\x00", "several disks"),
        (END, b"", 8, b"\x00\x00\x00\x00", "0 members"),
        (END, b"", 8, b"\xff\xff\xff\xff", "65535 members, expected 1 to 68"),
        (END, b"", 8, b"\x04\x00\x04\x00", "bytes after its last entry"),
        (END, b"", 8, b"\x07\x00\x07\x00", "entry at its byte .* is damaged"),
        (END, b"", 12, b"\x00\x00\x00\x00", "the directory is said to end at byte"),
        (END, b"", 16, b"\xff\xff\xff\xff", "the directory is said to end at byte"),
        (END, b"", 20, b"\x01\x00", "several disks or a comment"),
    ],
)
def test_a_container_that_two_programs_could_read_differently_is_refused(
    small, tmp_path, read_all, mark, member, offset, value, reason
):
    refused(patched(small, tmp_path / "h.ecotta", mark, member, offset, value), reason, read_all)


def test_bytes_before_and_after_are_refused(small, tmp_path, read_all):
    path = tmp_path / "h.ecotta"
    path.write_bytes(small.read_bytes() + b"\0")
    refused(path, "truncated, or bytes after the end", read_all)

    path.write_bytes(b"#!/bin/sh\n" + small.read_bytes())
    refused(path, "does not begin as a zip does", read_all)

    path.write_bytes(LOCAL + b"1234567" + small.read_bytes())
    refused(path, "is said to end at byte", read_all)


def test_bytes_between_members_and_directory_are_refused(small, tmp_path, read_all):
    content = bytearray(small.read_bytes())
    directory_at = content.index(CENTRAL)
    struct.pack_into("<L", content, len(content) - 6, directory_at + 3)
    path = tmp_path / "h.ecotta"
    path.write_bytes(content[:directory_at] + b"abc" + content[directory_at:])

    refused(path, "3 bytes between the last member and the directory", read_all)


def test_a_zip_bomb_is_not_unpacked(parts, read_all):
    with zipfile.ZipFile(parts.path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(1 << 24))

    assert parts.path.stat().st_size < 1 << 16
    refused(parts.path, "'manifest.json' is compressed", read_all)


def test_a_bundle_that_a_zip_program_packed_anew_is_refused(parts, read_all):
    with zipfile.ZipFile(parts.path, "w") as archive:
        for name, content in parts.members.items():
            archive.writestr(zipfile.ZipInfo(name), content)

    refused(parts.path, "weights.bin: begins at byte .*, no multiple of 4096; was the bundle packed anew", read_all)


def test_two_entries_for_one_member_are_refused(small, tmp_path, read_all):
    content = small.read_bytes()
    start, stop = content.index(CENTRAL), len(content) - 22
    first = content[start : content.index(CENTRAL, start + 1)]
    directory = first + content[start:stop]
    end = struct.pack("<4s4H2LH", END, 0, 0, 6, 6, len(directory), start, 0)
    path = tmp_path / "h.ecotta"
    path.write_bytes(content[:start] + directory + end)

    refused(path, "'manifest.json' begins at byte 0, expected .*: overlapping", read_all)


@pytest.mark.parametrize(
    "name",
    [
        *("../evil", "graphs/../../evil", "/etc/evil", "graphs//evil", "./evil", "graphs/.", "graphs/"),
        *("..\\evil", "C:evil", "evil\0.onnx", "evil\x1b[2J", "evil\n", "a" * 255),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(parts, read_all, name):
    parts.members[name] = b"evil"

    reason = "not in the manifest" if name.startswith("aaa") else "leads out of the folder|plain ASCII letters"
    refused(parts.pack(), reason, read_all)


def test_a_name_in_other_capitals_is_the_same_name(parts, read_all):
    parts.members["Weights.bin"] = b""

    refused(parts.pack(), "'Weights.bin' is there twice", read_all)


def test_a_name_of_other_letters_is_refused(parts, small, read_all):
    content = small.read_bytes().replace(b"weights.bin", "weightß.bi".encode())
    parts.path.write_bytes(content)

    refused(parts.path, "plain ASCII letters", read_all)


def test_more_members_than_a_bundle_can_have_are_refused(parts, read_all):
    parts.members |= {f"graphs/{number}.onnx": b"" for number in range(MAX_GRAPHS)}

    refused(parts.pack(), f"70 members, expected 1 to {MAX_GRAPHS + 4}", read_all)


# Members and manifest.


@pytest.mark.parametrize("name", ["manifest.json", "graphs/step-2.onnx", "weights.bin", "state.safetensors"])
def test_a_missing_member_is_named(parts, read_all, name):
    del parts.members[name]

    reason = "its first member is 'graphs/predict-2.onnx'" if name == "manifest.json" else f"'{name}' is missing"
    refused(parts.pack(), reason, read_all)


def test_an_unknown_member_is_named(parts, read_all):
    parts.members["graphs/other.onnx"] = b""

    refused(parts.pack(), "'graphs/other.onnx' is not in the manifest", read_all)


def test_the_manifest_comes_first(parts, read_all):
    parts.members["manifest.json"] = parts.members.pop("manifest.json")

    refused(parts.pack(), "its first member is 'graphs/predict-2.onnx', expected manifest.json", read_all)


@pytest.mark.parametrize("name", ["graphs/step-2.onnx", "weights.bin"])
def test_a_member_of_another_size_is_refused(parts, read_all, name):
    parts.members[name] += b"\0\0\0\0"

    refused(parts.pack(), rf"{name}: \d+ bytes, and the manifest says", read_all)


@pytest.mark.parametrize("name", ["graphs/step-2.onnx", "weights.bin", "state.safetensors"])
def test_a_member_with_another_content_is_refused(parts, read_all, name):
    parts.members[name] = parts.members[name][:-1] + b"\xee"

    refused(parts.pack(), f"{name}: its SHA-256 is .*damaged or changed", read_all)


def test_a_long_manifest_is_not_parsed(parts, read_all):
    refused(parts.pack(manifest=b" " * (MAX_MANIFEST_BYTES + 1)), "more than the 4194304 of a manifest", read_all)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b"[]", "expected a JSON object, found a list of 0"),
        (b"null", "expected a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1, "a": 2}', "the key 'a' is given twice"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"{}", "'format': missing"),
        (b'{"format": "zip"}', "expected one of ecotta-bundle, found 'zip'"),
        (b'{"format": "ecotta-bundle", "version": 6}', "is 6, and this ecotta_rt reads 1 to 5"),
        (b'{"format": "ecotta-bundle", "version": true}', "expected a whole number .*, found True"),
    ],
)
def test_what_is_no_manifest_is_refused(parts, read_all, text, reason):
    refused(parts.pack(manifest=text), f"manifest.json: .*{reason}", read_all)


SESSION = {
    "optimisation": "all",
    "nodes": 1,
    "live_bytes": 1,
    "arena_bytes": 1,
    "copied_bytes": 1,
    "mapped_bytes": 1,
    "tenants": [],
}


def put(*path, value):
    def change(manifest):
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


def as_of_version(version, manifest):
    """Say of the manifest that it is as old, without the fields that it must not have then."""
    for name in ("adaptation", "tables", "tables_sha256"):
        manifest.pop(name)
    manifest["layout"].pop("held")
    manifest.pop("method" if version < 4 else "nothing", None)
    manifest["version"] = version


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("extra", value=1), "'extra': unknown field; known here: made_with, model"),
        (put("graphs", 1, "extra", value=1), r"'graphs\[1\].extra': unknown field"),
        (put("frame", "mean", value=[0, 0, 0]), "'frame.mean': unknown field"),
        (put("graphs", 0, "sessions", value=[{}]), r"'graphs\[0\].sessions\[0\].optimisation': missing"),
        (put("graphs", 0, "sessions", value=[SESSION] * 2), "sessions': the name 'all' is given twice"),
        (put("graphs", 0, "sessions", value=[SESSION] * 9), "sessions': 9 entries, more than 8"),
        (
            put("graphs", 0, "sessions", value=[{**SESSION, "live_bytes": -1}]),
            "live_bytes': expected a whole number from 0",
        ),
        (put("graphs", 0, "sessions", value=[{**SESSION, "more": 1}]), "more': unknown field"),
        (
            put("graphs", 0, "sessions", value=[{**SESSION, "optimisation": "none"}]),
            "optimisation': expected one of all, extended, found 'none'",
        ),
        (put("graphs", 0, "sessions", value=[{**SESSION, "tenants": [{"name": "a"}]}]), "bytes': missing"),
        (put("x" * 5000, value=1), "'x{57}...': unknown field"),
        (put("model", value=""), "'model': expected printable text"),
        (put("model", value="\x1b[2J"), r"'model': expected printable text on one line, found '\\x1b"),
        (put("model", value="a" * 201), "'model': a text of 201 characters, more than 200"),
        (put("model", value=3), "'model': expected a text, found 3"),
        (put("classes", value=["one"]), "'classes': 1 classes, expected at least 2"),
        (put("classes", value="red"), "'classes': expected a list, found 'red'"),
        (put("classes", value=["red", None]), r"'classes\[1\]': expected a text, found None"),
        (put("classes", value=["c"] * 65537), "'classes': 65537 entries, more than 65536"),
        (put("parts", value=0), "'parts': expected a whole number from 1 to 1024, found 0"),
        (put("parts", value=1.0), "'parts': expected a whole number"),
        (put("frame", value=[]), "'frame': expected an object, found a list of 0"),
        (put("frame", "channels", value=2), "'frame.channels': 2, expected 1 or 3"),
        (put("frame", "channels", value=4), "'frame.channels': expected a whole number from 1 to 3"),
        (put("frame", "channels", value=1), "'frame.colour': expected one of grey, found 'RGB'"),
        (put("frame", "resize", value="contain"), "'frame.resize': expected one of cover, stretch"),
        (put("frame", "crop", value=0), "'frame.crop': expected a number above 0 and at most 1, found 0"),
        (put("frame", "crop", value=1.5), "'frame.crop': expected a number above 0 and at most 1"),
        (put("frame", "crop", value=True), "'frame.crop': expected a number"),
        (lambda manifest: as_of_version(2, manifest), "'frame.resize': unknown field"),
        (lambda manifest: as_of_version(4, manifest), "'method.state': not that of 'running' normalisation"),
        (lambda manifest: manifest.update(version=4), "'adaptation': unknown field"),
        (put("frame", "width", value=1 << 15), "'frame.width': expected a whole number from 1 to 16384"),
        (put("frame", "scale", value="1/128"), "'frame.scale': expected one of 1/255"),
        (put("normalisation", value="none"), "'normalisation': expected one of batch, running, source"),
        (put("options", "lr", value=None), "'options.lr': expected a text, a number, true or false"),
        (put("options", "lr", value=10**400), "'options.lr': expected a whole number from -9223372036854775808 to 92"),
        (put("options", value=[]), "'options': expected an object"),
        (put("options", value={str(i): 1 for i in range(257)}), "'options': 257 entries, more than 256"),
        (put("metadata", "\x07", value="x"), "'metadata': expected printable text"),
        (put("metadata", "note", value="a\nb"), "'metadata.note': expected printable text"),
        (
            put("layout", "parameters", 0, "shape", value=[-1]),
            "parameters.0..shape.0.': expected a whole number from 0",
        ),
        (put("layout", "parameters", 0, "shape", value=[1 << 20, 1 << 20]), "more than 1073741824 bytes"),
        (put("layout", "parameters", 0, "shape", value=[1] * 9), "9 entries, more than 8"),
        (put("layout", "parameters", 0, "dtype", value="float32"), "dtype': unknown field"),
        (
            put("layout", "parameters", 0, "name", value="group.shift"),
            "'layout.parameters': .* 'group.shift' is given twice",
        ),
        (put("graphs", value=[]), "'graphs': none"),
        (put("graphs", 0, "name", value="step-2"), "'graphs': the name 'step-2' is given twice"),
        (put("graphs", 0, "name", value="../evil"), "'../evil' is no name for a graph"),
        (put("graphs", 0, "name", value="Step"), "'Step' is no name for a graph"),
        (put("graphs", 0, "kind", value="dance"), "kind': expected one of step, predict, observe, accumulate, update"),
        (put("graphs", 0, "batch", value=0), "batch': expected a whole number from 1"),
        (put("graphs", 0, "bytes", value=(64 << 20) + 1), "bytes': expected a whole number from 1 to 67108864"),
        (put("graphs", 0, "sha256", value="A" * 64), "sha256': expected 64 hexadecimal digits"),
        (put("graphs", 0, "inputs", 0, "dtype", value="object"), "dtype': expected one of float32"),
        (put("graphs", 0, "inputs", 0, "name", value="frames"), "inputs': the name 'frames' is given twice"),
        (
            put("weights", 1, "offset", value=0),
            "'weights': 'pick.weight' at byte 0 overlaps 'pick.bias', which ends at 8",
        ),
        (put("weights", 1, "offset", value=4), "'weights': 'pick.bias' at byte 4, no multiple of 64"),
        (put("weights", 1, "offset", value=128), "'weights': 'pick.bias' ends at byte 136, and weights.bin has 72"),
        (put("weights", 1, "shape", value=[1 << 29]), "shape': .* is more than 1073741824 bytes"),
        (put("weights", 1, "name", value="pick.weight"), "'weights': the name 'pick.weight' is given twice"),
        (put("weights", 1, "offset", value=-64), "offset': expected a whole number from 0"),
        (put("parts", value=2), "'method': not that of ecotta in 2 parts"),
        (
            put("normalisation", value="source"),
            "'method.state': not that of 'source' normalisation: .* statistics held",
        ),
        (put("version", value=3), "'method': unknown field"),
        (put("method", value=None), "'method': expected an object, found None"),
        (put("method", "state", 2, "role", value="held"), "'method.state': not that of 'running' normalisation"),
        (put("method", "state", 0, "role", value="tracked"), "'method.state': not that of 'running' normalisation"),
        (
            put("method", "state", 0, "role", value="owner"),
            "role': expected one of learned, optimiser, observed, tracked, held",
        ),
        (put("method", "state", 1, "name", value="parameters"), "'method': the name 'parameters' is given twice"),
        (put("method", "state", value=[]), "'method.state': not that of 'running' normalisation: parameters learned"),
        (put("method", "gradients", value=[]), "'method': no gradients, expected at least one"),
        (put("method", "gradients", 0, value="frames"), "'method': the name 'frames' is given twice"),
        (put("method", "gradients", value=["a"] * 17), "'method.gradients': 17 entries, more than 16"),
        (
            put("method", "report", 0, "name", value="next_logits"),
            "'method': 'next_logits': 'next_' begins other names",
        ),
        (put("method", "report", 2, "name", value="momentum"), "'method': the name 'momentum' is given twice"),
        (put("method", "report", 2, "shape", value=[1 << 17]), r"shape': \[131072\] is more than 65536 numbers"),
        (put("method", "report", 2, "dtype", value="int8"), "dtype': expected one of float32, bool"),
        (
            put("method", "report", 1, "dtype", value="float32"),
            "'method': the report lacks 'kept', bool, of each frame",
        ),
        (put("method", "report", 1, "per", value="step"), "'method': the report lacks 'kept', bool, of each frame"),
        (put("weights_bytes", value=1 << 40), "'weights_bytes': expected a whole number from 0 to 1073741824"),
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused(parts, read_all, change, reason):
    change(parts.manifest)

    refused(parts.pack(), f"manifest.json: field .*{reason}", read_all)


@pytest.mark.parametrize(
    "field",
    [
        *("format", "version", "made_with", "model", "network_digest", "classes", "parts", "frame", "normalisation"),
        *(
            "options",
            "layout",
            "graphs",
            "weights",
            "weights_bytes",
            "weights_sha256",
            "state_sha256",
            "metadata",
            "method",
        ),
    ],
)
def test_a_manifest_without_a_field_is_refused(parts, read_all, field):
    del parts.manifest[field]

    refused(parts.pack(), f"field '{field}': missing", read_all)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    field=st.integers(0, 17),
)
def test_any_value_in_any_field_is_read_or_refused(small, value, field):
    manifest = json.loads(read_bundle(small).manifest.to_json())
    manifest[sorted(manifest)[field]] = value

    with suppress(InputFileError):
        Manifest.from_json(json.dumps(manifest), "m")


# What a graph takes and gives: a manifest may agree with its graph, and a runtime could still not run it.


def other_method(*path, value):
    """Declares a method that only its manifest knows, a part of it changed."""

    def change(manifest):
        put("method", "name", value="other")(manifest)
        put("method", *path, value=value)(manifest)

    return change


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_a_graph_that_lacks_what_its_kind_has_is_refused_when_the_bundle_is_opened(parts, kind):
    for index, port in enumerate(parts.manifest["graphs"][1][kind]):
        changed = deepcopy(parts.manifest)
        del changed["graphs"][1][kind][index]

        with pytest.raises(InputFileError, match=rf"graphs\[1\].{kind}': '{port['name']}' is missing, expected "):
            read_bundle(parts.pack(manifest=json.dumps(changed).encode()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("graphs", 1, "kind", value="predict"), "inputs': 'momentum' is not known; expected frames, parameters"),
        (put("graphs", 0, "kind", value="step"), "inputs': 'momentum' is missing"),
        (put("graphs", 0, "kind", value="accumulate"), "batch': 2 frames in 'predict-2'; accumulate graphs are of 1"),
        (put("graphs", 1, "kind", value="update"), "batch': 2 frames in 'step-2'; update graphs are of 1"),
        (put("graphs", 0, "batch", value=1), r"'frames' is float32 \[2, 3, 4, 4\], expected float32 \[1, 3, 4, 4\]"),
        (put("frame", "width", value=5), r"'frames' is float32 \[2, 3, 4, 4\], expected float32 \[2, 3, 4, 5\]"),
        (put("classes", value=["a", "b", "c"]), r"'logits' is float32 \[2, 2\], expected float32 \[2, 3\]"),
        (put("layout", "parameters", 0, "shape", value=[3]), r"'parameters' is float32 \[4\], expected float32 \[5\]"),
        (put("layout", "statistics", value=[]), r"'statistics' is float32 \[4\], expected float32 \[0\]"),
        (other_method("report", 2, "shape", value=[3]), r"'l1' is float32 \[1\], expected float32 \[3\]"),
        (other_method("report", 2, "per", value="frame"), r"'l1' is float32 \[1\], expected float32 \[2, 1\]"),
        (other_method("report", 2, "name", value="l2"), "outputs': 'l2' is missing, expected"),
        (other_method("report", 2, "dtype", value="bool"), r"'l1' is float32 \[1\], expected bool \[1\]"),
        (put("graphs", 1, "outputs", 4, "dtype", value="float32"), r"'kept' is float32 \[2\], expected bool \[2\]"),
        (put("graphs", 1, "outputs", 7, "name", value="next_passwords"), "outputs': 'moved' is missing"),
    ],
)
def test_a_graph_that_does_not_fit_the_rest_of_the_manifest_is_refused(parts, change, reason):
    change(parts.manifest)

    with pytest.raises(InputFileError, match=f"manifest.json: field .*{reason}"):
        read_bundle(parts.pack())


def test_what_passes_every_check_can_be_run(small):
    pytest.importorskip("onnxruntime")
    from ecotta_rt.runtime.engine import Runtime

    runtime = Runtime.load(small)

    assert runtime(np.full((2, 4, 4, 3), 200, np.uint8)).why == "adapted"
    assert runtime.predict(np.zeros((2, 4, 4, 3), np.uint8)).why == "off"


# Graphs.


@pytest.fixture
def graph(parts):
    """The step graph, to be changed and put back."""
    onnx = pytest.importorskip("onnx")
    return onnx.ModelProto.FromString(parts.members["graphs/step-2.onnx"])


def foreign_operator(model):
    model.graph.node[0].domain = "com.microsoft"


def foreign_operator_in_a_branch(model):
    attribute = model.graph.node[0].attribute.add(name="then_branch")
    attribute.g.node.add(op_type="Evil", domain="evil.domain")


def foreign_operator_set(model):
    model.opset_import.add(domain="com.microsoft", version=1)


def no_operator_set(model):
    del model.opset_import[:]


def function(model):
    model.functions.add(name="Conv", domain="")


def outside(**said):
    def change(model):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "pick.weight")
        for entry in tensor.external_data:
            entry.value = said.get(entry.key, entry.value)

    return change


def other_weight_name(model):
    model.graph.initializer[0].name = "passwords"


def other_weight_shape(model):
    model.graph.initializer[0].dims[:] = [3, 2, 1, 1]


def other_weight_type(model):
    model.graph.initializer[0].data_type = 6


def without_length(model):
    del model.graph.initializer[0].external_data[2]


def outside_in_a_branch(model):
    tensor = model.graph.node[0].attribute.add(name="then_branch").g.initializer.add(name="pick.weight")
    tensor.CopyFrom(model.graph.initializer[0])
    tensor.external_data[0].value = "/etc/passwd"


def other_input(model):
    model.graph.input[3].type.tensor_type.shape.dim[0].dim_value = 64


def symbolic_input(model):
    model.graph.input[3].type.tensor_type.shape.dim[0].dim_param = "N"


def other_output(model):
    model.graph.output[0].name = "other"


def one_node_more(model):
    model.graph.node.add(op_type="Identity", input=["logits"], output=["more"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (foreign_operator, "operator 'Conv' of domain 'com.microsoft'; only standard operators"),
        (foreign_operator_in_a_branch, "operator 'Evil' of domain 'evil.domain'"),
        (foreign_operator_set, "imports the operator sets '' 18, 'com.microsoft' 1"),
        (no_operator_set, "imports the operator sets none"),
        (function, "functions of its own"),
        (outside(location="/etc/passwd"), "'pick.weight' lies in '/etc/passwd'"),
        (outside(location="../weights.bin"), "lies in '../weights.bin'"),
        (outside(location="./weights.bin"), "lies in './weights.bin'"),
        (outside(location="Weights.bin"), "lies in 'Weights.bin'"),
        (outside(location="*/_ORT_MEM_ADDR_/*"), "lies in '.{1,3}_ORT_MEM_ADDR_"),
        (outside(location="weights.bin\0"), r"lies in 'weights.bin\\x00'"),
        (outside(location=""), "expected location, offset and length"),
        (outside(offset="64"), "24 bytes at 64 of weights.bin; the manifest has"),
        (outside(offset="1000000"), "24 bytes at 1000000 of weights.bin"),
        (outside(offset="-64"), "offset '-64' is no whole number"),
        (outside(length="28"), "28 bytes at 0 of weights.bin"),
        (outside(length=str(2**64)), "is no whole number"),
        (without_length, "an unknown number of bytes"),
        (other_weight_name, "'passwords' lies in weights.bin, and the manifest lists no weight of that name"),
        (other_weight_shape, r"float32 \[3, 2, 1, 1\]"),
        (other_weight_type, r"int32 \[2, 3, 1, 1\]"),
        (outside_in_a_branch, "lies in '/etc/passwd'"),
        (other_input, "its inputs are .*, and the manifest says"),
        (symbolic_input, "'frames' is float32, .'N', 3, 4, 4.; expected fixed sizes"),
        (other_output, "its outputs are other float32"),
        (one_node_more, "19 nodes, and the manifest says 18"),
    ],
)
def test_a_graph_that_asks_for_more_than_a_bundle_gives_is_refused(parts, read_all, graph, change, reason):
    change(graph)
    parts.replace_graph("step-2", graph.SerializeToString())

    refused(parts.pack(), f"graphs/step-2.onnx: .*{reason}", read_all)


def test_other_graphs_of_the_bundle_still_work(parts, graph):
    foreign_operator(graph)
    parts.replace_graph("step-2", graph.SerializeToString())

    assert read_bundle(parts.pack()).graph("predict-2")


# The state.


def with_statistics(values):
    return lambda state: replace(state, statistics={**state.statistics, "norm.variance": np.array(values, np.float32)})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda state: replace(state, network_digest="other"),
            "belongs to network 'other', and the manifest is of '5ea1",
        ),
        (lambda state: replace(state, parameters={}), "parameters/.*: the state lacks it"),
        (lambda state: replace(state, momentum={}), "momentum/.*: the state lacks it"),
        (with_statistics([1]), r"statistics/norm.variance is float32 \[1\], expected float32 \[2\]"),
        (with_statistics([1, -1]), "negative variance"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(parts, read_all, change, reason):
    state = AdaptState.from_bytes(parts.members["state.safetensors"], "s")
    parts.replace_state(change(state).to_bytes())

    refused(parts.pack(), f"state.safetensors: .*{reason}", read_all)


def test_a_state_with_nan_is_refused(parts, read_all):
    one = np.ones(1, np.float32).tobytes()
    content = parts.members["state.safetensors"]
    at = content.rindex(one)
    parts.replace_state(content[:at] + np.array([np.nan], np.float32).tobytes() + content[at + 4 :])

    refused(parts.pack(), "state.safetensors: .* holds NaN", read_all)


def test_what_is_no_state_is_refused(parts, read_all):
    parts.replace_state(b"PK\3\4 no state")

    refused(parts.pack(), "state.safetensors: not a safetensors file", read_all)


def test_no_file_stays_open(small):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    bundle = read_bundle(small)
    weights = bundle.weights()
    del bundle

    assert weights["pick.bias"].tolist() == [0.5, 0.25]  # the views keep the mapping
    del weights
    assert (len(os.listdir("/proc/self/fd")) if before else 0) <= before


# Tables


MIX = np.arange(6, dtype=np.float16).reshape(2, 3)
LISTED = {"mix": {"shape": [2, 3], "dtype": "float16"}, "rows": {"shape": [4]}}


def tables(**changes):
    return tables_content({"mix": MIX, "rows": np.ones(4, np.float32), **changes})


def test_tables_are_read_as_they_were_written(parts):
    parts.put_tables(tables(), **LISTED)

    found = read_bundle(parts.pack()).tables()

    assert found["mix"].dtype == np.float16 and found["rows"].dtype == np.float32
    np.testing.assert_array_equal(found["mix"], MIX)
    np.testing.assert_array_equal(found["rows"], np.ones(4))


@pytest.mark.parametrize(
    ("content", "listed", "reason"),
    [
        (tables(more=np.ones(1, np.float32)), LISTED, "'more' is not in the manifest"),
        (tables(), {**LISTED, "more": {"shape": [1]}}, "lacks 'more'"),
        (
            tables(),
            {**LISTED, "mix": {"shape": [3, 2], "dtype": "float16"}},
            r"'mix' is F16 \[2, 3\], and the manifest",
        ),
        (tables(), {**LISTED, "mix": {"shape": [2, 3]}}, r"the manifest says float32 \[2, 3\]"),
        (tables(rows=np.array([1, np.inf, 1, 1], np.float32)), LISTED, "'rows' holds NaN or infinity"),
        (tables(mix=MIX * np.float16(np.nan)), LISTED, "'mix' holds NaN or infinity"),
        (b"PK no tables", LISTED, "a header of"),
        (tables()[:-1], LISTED, "not a safetensors file, or a truncated one"),
        ((2 << 20).to_bytes(8, "little") + bytes(100), LISTED, "a header of 2097152 bytes, more than 1048576"),
        (b"", LISTED, "not a safetensors file"),
    ],
)
def test_tables_that_are_not_what_the_manifest_says_are_refused(parts, content, listed, reason):
    parts.put_tables(content, **listed)

    refused(parts.pack(), f"tables.safetensors: .*{reason}", lambda path: read_bundle(path).tables())


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ({"mix": {"shape": [2, 3], "dtype": "int8"}}, "'tables': 'mix' is int8, expected float32 or float16"),
        ({"mix": {"shape": [1 << 24, 2]}}, "'tables': 134217728 bytes of tables, more than 67108864"),
        ({str(number): {"shape": [1]} for number in range(257)}, "'tables': 257 entries, more than 256"),
    ],
)
def test_tables_that_no_reader_takes_are_refused_by_the_manifest_alone(parts, listed, reason):
    parts.put_tables(tables(), **listed)

    refused(parts.pack(), f"field {reason}", read_bundle)


def test_tables_that_nobody_listed_or_that_are_too_long_or_damaged_are_refused(parts):
    parts.members["tables.safetensors"] = tables()
    refused(parts.pack(), "member 'tables.safetensors' is not in the manifest", read_bundle)

    parts.put_tables(bytes(2 << 20), **LISTED)
    refused(parts.pack(), "tables.safetensors: 2097152 bytes, more than the 1048604 that such tables", read_bundle)

    parts.put_tables(tables(), **LISTED)
    parts.members["tables.safetensors"] = tables(rows=np.zeros(4, np.float32))
    refused(parts.pack(), "its SHA-256 is", lambda path: read_bundle(path).tables())

    del parts.members["tables.safetensors"]
    refused(parts.pack(), "member 'tables.safetensors' is missing", read_bundle)
