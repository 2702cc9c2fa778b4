import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.errors import ConfigurationError, TransferError, UsageError
from ecotta_rt.machine import this_machine
from ecotta_rt.machine.device import (
    HOSTS,
    ISA_FEATURES,
    MARKS,
    THIS_MACHINE,
    WHEELS,
    DeviceProfile,
    device_ids,
    load_device,
    parse_device,
)

PROMISED = {
    *("raspberry-pi-zero-2w", "raspberry-pi-3a-plus", "raspberry-pi-3b-plus"),
    *(f"raspberry-pi-4-{size}gb" for size in (1, 2, 4, 8)),
    *(f"raspberry-pi-5-{size}gb" for size in (2, 4, 8, 16)),
    *("jetson-nano", "orange-pi-5", "orange-pi-zero-3", "iphone-13", "iphone-13-pro", "pixel", "this-machine"),
}

BOARD = b"""\
schema = 1
id = "desk-board"
name = "A board on a desk"
host = "python"
notes = ["None."]

ram_bytes = { value = 1_000_000_000, mark = "documented", source = "sheet" }
visible_bytes = { value = 900_000_000, mark = "measured", source = "sheet" }
available_bytes = { value = 800_000_000, mark = "measured", source = "sheet" }
default_limit_bytes = { value = 500_000_000, mark = "estimated", source = "sheet" }
cores = { value = 4, mark = "documented", source = "sheet" }
cpu = { value = "Cortex-A53", mark = "documented", source = "sheet" }
isa = { value = ["neon"], mark = "documented", source = "sheet" }
wheels = { value = "stock", mark = "estimated", source = "sheet" }

[sources]
sheet = "The sheet in the box."
"""


def test_every_promised_device_is_there():
    assert set(device_ids()) == PROMISED


def test_devices_are_listed_by_name_then_size_with_this_machine_last():
    ids = device_ids()

    assert ids.index("raspberry-pi-5-2gb") < ids.index("raspberry-pi-5-16gb")
    assert ids[-1] == THIS_MACHINE


def test_every_figure_of_every_device_has_its_evidence():
    described = ("id", "name", "host", "notes", "evidence")
    for profile in map(load_device, device_ids()):
        names = [field.name for field in dataclasses.fields(profile) if field.name not in described]

        assert profile.evidence.keys() == {n for n in names if getattr(profile, n) is not None}, profile.id
        assert all(fact.mark in MARKS and fact.source for fact in profile.evidence.values()), profile.id


def test_every_device_speaks_the_fixed_words():
    for profile in map(load_device, device_ids()):
        assert profile.host in HOSTS, profile.id
        assert profile.wheels in WHEELS, profile.id
        assert set(profile.isa) <= set(ISA_FEATURES), profile.id


def test_phones_are_native_and_boards_run_python():
    native = {device_id for device_id in device_ids() if load_device(device_id).host == "native"}

    assert native == {"iphone-13", "iphone-13-pro", "pixel"}
    assert all(load_device(device_id).wheels == "none" for device_id in native)


def test_the_zero_2w_has_what_was_measured_on_one():
    board = load_device("raspberry-pi-zero-2w")

    assert board.visible_bytes == 417 * 2**20
    assert board.evidence["visible_bytes"].mark == "measured"
    assert board.default_limit_bytes == 200_000_000


def test_a_peak_fits_up_to_the_default_limit_and_no_further():
    board = load_device("raspberry-pi-zero-2w")

    assert board.fits(board.default_limit_bytes)
    assert not board.fits(board.default_limit_bytes + 1)


def test_an_unknown_device_is_refused_with_the_nearest_and_the_list():
    with pytest.raises(
        UsageError, match=r"'raspbery-pi-5-4gb'; did you mean raspberry-pi-5-4gb\? Known: iphone-13, .*"
    ):
        load_device("raspbery-pi-5-4gb")


def test_only_listed_ids_are_looked_up(subtests):
    for name in ["../devices/pixel", "", "README", "pixel\0"]:
        with subtests.test(name=name), pytest.raises(UsageError, match="unknown device"):
            load_device(name)


def test_a_profile_of_ones_own_is_read_by_path(tmp_path):
    path = tmp_path / "board.toml"
    path.write_bytes(BOARD)

    profile = load_device(path)

    assert (profile.id, profile.available_bytes, profile.isa) == ("desk-board", 800_000_000, ("neon",))
    assert profile.evidence["cores"].source == "The sheet in the box."


def test_a_path_to_nothing_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"no such device profile: .*absent\.toml"):
        load_device(tmp_path / "absent.toml")


def test_a_profile_that_cannot_be_opened_is_a_transfer_error(tmp_path, monkeypatch):
    path = tmp_path / "board.toml"
    path.write_bytes(BOARD)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(TransferError, match="Permission denied"):
        load_device(path)


def test_what_nobody_has_measured_may_be_left_out():
    profile = parse_device(re.sub(rb"(?m)^(visible|available)_bytes.*\n", b"", BOARD), "board.toml")

    assert profile.visible_bytes is None
    assert "visible_bytes" not in profile.as_json()


def test_a_wrong_field_is_refused_with_file_line_and_field(subtests):
    for old, new, message in [
        (b"schema = 1", b"schema = 2", "line 1: field 'schema': this version reads schema 1, the file has 2"),
        (b"schema = 1", b"schema = true", "line 1: field 'schema': expected a whole number"),
        (b"desk-board", b"Desk Board", "line 2: field 'id': expected lower-case words"),
        (b"desk-board", b"this-machine", "line 2: field 'id'"),
        (b'"python"', b'"ruby"', "line 4: field 'host': expected one of python, native, found 'ruby'"),
        (b'notes = ["None."]', b"notes = [1]", r"line 5: field 'notes\[0\]': expected a text, found 1"),
        (
            b"1_000_000_000",
            b'"1 GB"',
            "line 7: field 'ram_bytes.value': expected a whole number from 1 to 1125899906842624, found '1 GB'",
        ),
        (b"1_000_000_000", b"0", "line 7: field 'ram_bytes.value': expected a whole number from 1 to"),
        (b"900_000_000", b"1_100_000_000", "line 8: field 'visible_bytes': 1100000000 is more than ram_bytes"),
        (
            b"500_000_000",
            b"900_000_000",
            "line 10: field 'default_limit_bytes': 900000000 is more than available_bytes",
        ),
        (b"value = 4,", b"value = 4.0,", "line 11: field 'cores.value': expected a whole number"),
        (b"value = 4,", b"value = 4, unit = 1,", "line 11: field 'cores.unit': unknown field"),
        (b"value = 4, ", b"", "line 11: field 'cores.value': missing"),
        (b'"neon"', b'"mmx"', r"line 13: field 'isa.value\[0\]': expected one of neon, .*, found 'mmx'"),
        (b'"stock", mark = "estimated"', b'"stock", mark = "sworn"', "line 14: field 'wheels.mark': expected one of"),
        (b'"stock", mark = "estimated", source = "sheet"', b'"stock", mark = "estimated", source = "web"', "line 14"),
        (b'cpu = { value = "Cortex-A53"', b'#cpu = { value = "Cortex-A53"', "line 1: field 'cpu': missing"),
        (b"cores = {", b"coers = {", "line 11: field 'coers': unknown field; did you mean cores\\?"),
        (b"notes =", b"note =", "line 5: field 'note': unknown field; .*known here: .*notes"),
        (b"sheet = ", b"sheet = 1 #", "line 17: field 'sources.sheet': expected a text"),
    ]:
        with subtests.test(old=old, new=new):
            content = BOARD.replace(old, new, 1)
            assert content != BOARD

            with pytest.raises(ConfigurationError, match=f"^board.toml, {message}"):
                parse_device(content, "board.toml")


@given(
    start=st.integers(0, len(BOARD)),
    length=st.integers(0, 40),
    insert=st.one_of(
        st.binary(max_size=8), st.sampled_from([b"=", b"[", b"{", b'"', b"\n", b"1e999", b"nan", b"true", b"-"])
    ),
)
def test_a_damaged_profile_is_refused_cleanly_or_still_a_valid_one(start, length, insert):
    content = BOARD[:start] + insert + BOARD[start + length :]

    try:
        profile = parse_device(content, "board.toml")
    except ConfigurationError:
        return  # anything else that is raised fails the test

    assert 1 <= profile.default_limit_bytes <= profile.ram_bytes
    assert profile.cores >= 1
    assert all(profile.evidence[key].mark in MARKS for key in ("ram_bytes", "cores", "cpu", "isa", "wheels"))


@given(st.data())
def test_a_profile_with_a_field_of_any_other_kind_is_refused_cleanly(data):
    lines = BOARD.decode().splitlines()
    # The notes may be an empty list.
    at = data.draw(st.sampled_from([n for n, line in enumerate(lines) if " = " in line and "notes" not in line]))
    key = lines[at].split(" = ")[0]
    lines[at] = (
        f"{key} = {data.draw(st.sampled_from(['-1', '1.5', 'inf', '1979-05-27', '[]', '{}', '[[1]]', 'false']))}"
    )

    with pytest.raises(ConfigurationError, match="^board.toml, line "):
        parse_device("\n".join(lines).encode(), "board.toml")


def test_this_machine_is_read_when_asked(monkeypatch):
    monkeypatch.setattr(this_machine, "total_memory_bytes", lambda: 4000)
    monkeypatch.setattr(this_machine, "available_memory_bytes", lambda: 2000)
    monkeypatch.setattr(this_machine, "cgroup_limit_bytes", lambda: None)
    assert load_device(THIS_MACHINE).default_limit_bytes == 1500

    monkeypatch.setattr(this_machine, "cgroup_limit_bytes", lambda: 1000)
    boxed = load_device(THIS_MACHINE)

    assert (boxed.visible_bytes, boxed.available_bytes, boxed.default_limit_bytes) == (1000, 1000, 1000)


def test_the_folders_readme_explains_every_field(checkout):
    readme = (checkout / "devices" / "README.md").read_text(encoding="utf-8")
    fields = [field.name for field in dataclasses.fields(DeviceProfile) if field.name != "evidence"]

    assert all(f"| `{name}` |" in readme for name in ["schema", *fields])
    assert all(f"`{word}`" in readme for word in (*HOSTS, *WHEELS, *MARKS))
    assert all(feature in readme for feature in ISA_FEATURES)


def test_a_file_is_named_after_its_id(checkout):
    ids = {path.stem: load_device(path).id for path in (checkout / "devices").glob("*.toml")}

    assert ids == {name: name for name in device_ids() if name != THIS_MACHINE}
