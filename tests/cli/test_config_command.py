import json
import sys
import tomllib

import pytest

from ecotta_rt.cli.main import main
from ecotta_rt.daemon.configuration.config_reading import read
from ecotta_rt.daemon.configuration.config_text import first_text
from ecotta_rt.daemon.configuration.environment_file import file_variables
from ecotta_rt.daemon.configuration.tables import CameraOptions, NetworkOptions
from ecotta_rt.sinks.kinds import KINDS
from fixtures.web_server import web_server


@pytest.fixture
def small(checkout):
    return checkout / "tests" / "hostile" / "small.ecotta"


@pytest.fixture
def door(tmp_path, small):
    """A file made by `config init` for a tiny bundle."""
    path = tmp_path / "door.toml"
    camera = "front-door=rtsp://${CAMERA_USER}:${CAMERA_PASSWORD}@10.0.0.7/live"
    assert main(["config", "init", str(path), "--bundle", str(small), "--camera", camera]) == 0
    return path


@pytest.fixture
def secrets(monkeypatch):
    monkeypatch.setenv("CAMERA_USER", "door")
    monkeypatch.setenv("CAMERA_PASSWORD", "hunter2")


def test_a_file_to_begin_with_reads_back_to_the_defaults(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(first_text("net.ecotta", {"a": "/dev/video0", "b": "/dev/video1"}), encoding="utf-8")
    config = read(path, {}).config

    assert config.network == NetworkOptions("net.ecotta")
    assert config.cameras == (CameraOptions("a", "/dev/video0"), CameraOptions("b", "/dev/video1"))
    assert [sink.kind for sink in config.sinks] == ["json-lines"]


def test_a_bundle_that_is_not_there_yet_is_told(tmp_path, capsys):
    assert main(["config", "init", str(tmp_path / "x.toml"), "--bundle", str(tmp_path / "none.ecotta")]) == 0

    assert f"there is no {tmp_path / 'none.ecotta'} yet" in capsys.readouterr().err


def test_the_defaults_it_shows_are_the_defaults(tmp_path):
    """With the # before every field taken away, but for the examples of those that have no default."""
    path, plain = tmp_path / "x.toml", tmp_path / "plain.toml"
    text = first_text("net.ecotta", {"a": "/dev/video0"}).partition("[[sink]]")[0]
    path.write_text(text, encoding="utf-8")
    held = read(path, {}).config
    fields = [line for line in text.splitlines() if line.startswith("# ") and " = " in line]
    defaults = [line for line in fields if not is_example(held, line.removeprefix("# "))]
    for line in defaults:
        text = text.replace(f"\n{line}\n", f"\n{line.removeprefix('# ')}\n")
    plain.write_text(text, encoding="utf-8")

    assert len(defaults) > 15
    shown = read(plain, {}).config
    assert (shown.network, shown.cameras, shown.state) == (held.network, held.cameras, held.state)
    assert (shown.http, shown.signs, shown.log) == (held.http, held.signs, held.log)


def test_the_outputs_and_the_alert_it_shows_can_be_used(tmp_path):
    """With the # before every line of their tables taken away."""
    path = tmp_path / "x.toml"
    head, mark, rest = first_text("net.ecotta", {"a": "/dev/video0"}).partition("[[sink]]")
    lines = [line.removeprefix("# ") for line in rest.splitlines() if line.startswith("# [[") or " = " in line]
    path.write_text(head + mark + "\n" + "\n".join(lines), encoding="utf-8")
    config = read(path, {"TOPIC": "door", "HOST": "10.0.0.2"}).config

    assert [sink.kind for sink in config.sinks] == [*KINDS]
    assert [rule.name for rule in config.alert_rules] == ["visitor"]


def is_example(config, line):
    """Whether a field that is None or empty unless it is given is on this line."""
    name = line.partition(" = ")[0]
    tables = [config.network, *config.cameras, config.state, config.http, config.signs, config.log]
    return any(getattr(table, name, 0) in (None, ()) for table in tables)


def test_every_comment_keeps_to_the_width_of_a_terminal(tmp_path):
    lines = first_text("net.ecotta", {"a": "/dev/video0"}).splitlines()

    assert max(len(line) for line in lines if line.startswith("# ") and " = " not in line) <= 110


def test_a_file_that_is_there_is_not_replaced_unless_told(door, capsys):
    before = door.read_text(encoding="utf-8")

    assert main(["config", "init", str(door)]) == 2
    assert door.read_text(encoding="utf-8") == before
    assert "--force replaces it" in capsys.readouterr().err
    assert main(["config", "init", str(door), "--force"]) == 0
    assert tomllib.loads(door.read_text(encoding="utf-8"))["network"] == {"bundle": "/etc/ecotta/net.ecotta"}


def test_without_a_file_it_goes_to_standard_output(capsys):
    assert main(["config", "init", "--camera", "/dev/video0", "--camera", "yard=/dev/video1", "--state", "/srv"]) == 0

    values = tomllib.loads(capsys.readouterr().out)
    assert [camera["name"] for camera in values["camera"]] == ["camera", "yard"]
    assert values["state"] == {"folder": "/srv"}


@pytest.mark.parametrize("cameras", [["door"], ["/dev/video0", "door"]])
def test_a_name_alone_is_no_source(cameras, capsys):
    assert main(["config", "init", *(word for camera in cameras for word in ("--camera", camera))]) == 2
    assert (
        "--camera door: expected NAME=SOURCE, as door=/dev/video0; there is no source 'door'" in capsys.readouterr().err
    )


@pytest.mark.parametrize("cameras", [["a=x", "a=y"], ["a="], [""]])
def test_a_camera_without_a_name_or_a_source_of_its_own_is_refused(cameras, capsys):
    assert main(["config", "init", *(word for camera in cameras for word in ("--camera", camera))]) == 2
    assert "expected NAME=SOURCE, each name once" in capsys.readouterr().err


def test_a_password_that_is_written_out_is_warned_of_and_not_shown(tmp_path, capsys):
    assert main(["config", "init", str(tmp_path / "x"), "--camera", "a=rtsp://door:hunter2@10.0.0.7/live"]) == 0

    told = capsys.readouterr().err
    assert "holds a password that all may read" in told
    assert "hunter2" not in told


def test_what_is_fine_is_summed_up(door, secrets, small, capsys):
    assert main(["config", "check", str(door)]) == 0

    told = capsys.readouterr().out
    assert f"{door} is fine:" in told
    assert str(small) in told
    assert "camera   front-door: rtsp://***@10.0.0.7/live" in told
    assert "http     off" in told
    assert "hunter2" not in told


def test_the_summary_comes_as_json_too(door, secrets, capsys):
    assert main(["config", "check", str(door), "--json"]) == 0

    facts = json.loads(capsys.readouterr().out)
    assert facts["cameras"] == [{"name": "front-door", "source": "rtsp://***@10.0.0.7/live"}]
    assert facts["sinks"] == [{"name": "json-lines", "kind": "json-lines"}]


def test_a_fault_ends_with_78(door, capsys):
    assert main(["config", "check", str(door)]) == 78
    assert "there is no environment variable CAMERA_USER" in capsys.readouterr().err


def test_a_bundle_that_is_none_is_told_of(door, secrets, tmp_path, monkeypatch, capsys):
    (tmp_path / "none.ecotta").write_bytes(b"none")
    monkeypatch.setenv("ECOTTA_SERVE__NETWORK__BUNDLE", str(tmp_path / "none.ecotta"))

    assert main(["config", "check", str(door)]) == 4


def test_a_class_that_the_network_does_not_have_is_found(door, secrets, capsys):
    with door.open("a", encoding="utf-8") as file:
        file.write('[[alert]]\nname = "x"\nwhen = "seen"\nlabel = "red"\n')
        file.write('[[alert]]\nname = "y"\nwhen = "seen"\nlabel = "unicorn"\n')

    assert main(["config", "check", str(door)]) == 78
    assert "field 'alert[1].label': the network has no class 'unicorn'" in capsys.readouterr().err


def test_what_holds_is_shown_with_where_it_comes_from(door, secrets, small, monkeypatch, capsys):
    monkeypatch.setenv("ECOTTA_SERVE__HTTP__PORT", "9000")
    monkeypatch.setenv("ECOTTA_SERVE__HTTP__TOKEN", "0123456789abcdef")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/ecotta")

    assert main(["config", "show", str(door)]) == 0

    told = capsys.readouterr().out
    lines = {line.partition(" = ")[0]: " ".join(line.split()) for line in told.splitlines()}
    source = next(
        n for n, line in enumerate(door.read_text(encoding="utf-8").splitlines(), 1) if line.startswith("source")
    )
    assert lines["port"] == "port = 9000 # environment ECOTTA_SERVE__HTTP__PORT"
    assert lines["token"] == 'token = "***" # environment ECOTTA_SERVE__HTTP__TOKEN'
    assert lines["folder"] == 'folder = "/var/lib/ecotta" # environment STATE_DIRECTORY'
    assert lines["every_s"].startswith("every_s = ") and lines["every_s"].endswith("# default")
    assert lines["source"] == (
        f'source = "rtsp://***@10.0.0.7/live" # line {source}, from environment CAMERA_USER, CAMERA_PASSWORD'
    )
    assert "hunter2" not in told and "0123456789abcdef" not in told
    assert tomllib.loads(told)["network"]["bundle"] == str(small)


def test_what_holds_comes_as_json_too(door, secrets, capsys):
    assert main(["config", "show", str(door), "--json"]) == 0

    facts = json.loads(capsys.readouterr().out)
    assert facts["http"]["port"] == {"value": 8642, "from": "default"}
    assert facts["camera"][0]["name"]["value"] == "front-door"
    assert facts["sink"][0]["kind"]["value"] == "json-lines"


@pytest.mark.parametrize(
    "line",
    [
        ["check"],
        ["show"],
        ["check", "x.toml", "--bundle", "b"],
        ["show", "x.toml", "--force"],
        ["init", "--json"],
        ["look", "x.toml"],
        ["check", "x.toml", "visitor"],
    ],
)
def test_what_is_for_another_action_is_refused(line, capsys):
    assert main(["config", *line]) == 2


def test_check_and_show_take_the_variables_of_the_file_beside_as_the_service_does(door, capsys, monkeypatch):
    for name in ("CAMERA_USER", "CAMERA_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    assert main(["config", "check", str(door)]) == 78
    assert "there is no environment variable CAMERA_USER" in capsys.readouterr().err

    door.with_suffix(".env").write_text("# of the camera\nCAMERA_USER=door\nCAMERA_PASSWORD='hunter2'\n")
    assert main(["config", "check", str(door)]) == 0
    assert main(["config", "show", str(door)]) == 0
    assert "hunter2" not in capsys.readouterr().out


def test_lines_of_the_file_beside_that_systemd_reads_otherwise_are_refused_by_number(door, capsys):
    beside = door.with_suffix(".env")
    beside.write_text(
        "CAMERA_USER=door # who\nCAMERA_PASSWORD='hunter2'\nnonsense hunter2\n\nexport A=hunter2\n"
        "B='hunter2' # note\nC=two words\nD='hunter2\n"
    )
    assert main(["config", "check", str(door)]) == 78
    told = capsys.readouterr().err
    found = [line.partition(f"{beside}, line ")[2] for line in told.splitlines() if f"{beside}, line " in line]
    assert [line[:1] for line in found] == ["1", "3", "5", "6", "7", "8"]
    assert all("comment behind a value" in found[at] for at in (0, 3))
    assert all("expected NAME=value" in found[at] for at in (1, 2))
    assert "hunter2" not in told

    beside.write_text("  # of the camera\n; too\n\nCAMERA_USER = do#or\nCAMERA_PASSWORD='hunter # 2'\nEMPTY=\n")
    assert file_variables(beside) == {"CAMERA_USER": "do#or", "CAMERA_PASSWORD": "hunter # 2", "EMPTY": ""}
    assert main(["config", "check", str(door)]) == 0


def test_a_bundle_in_the_place_of_a_configuration_is_told_as_such(small, tmp_path, capsys):
    large = tmp_path / "large.ecotta"
    large.write_bytes(small.read_bytes() + bytes(1 << 17))
    for bundle in (small, large):
        assert main(["config", "check", str(bundle)]) == 78
        assert f"{bundle}: a bundle, where a configuration is expected" in capsys.readouterr().err


def test_a_package_that_a_camera_needs_is_missed_with_69_and_how_to_install_it(tmp_path, small, monkeypatch, capsys):
    path = tmp_path / "x.toml"
    cameras = ("in=watch:/srv/in", "yard=http://10.0.0.7/a.jpg", "door=rtsp://10.0.0.7/live")
    words = [word for camera in cameras for word in ("--camera", camera)]
    assert main(["config", "init", str(path), "--bundle", str(small), *words]) == 0
    for module in ("PIL", "PIL.Image", "av"):
        monkeypatch.setitem(sys.modules, module, None)

    assert main(["config", "check", str(path)]) == 69
    told = capsys.readouterr().err
    assert "camera 'in': PIL is not installed; it comes with: pip install '.[pictures]'" in told
    assert "camera 'yard': PIL is not installed" in told
    assert "camera 'door': av is not installed; it comes with: pip install '.[camera]'" in told


def test_an_address_that_apprise_does_not_know_is_a_fault_with_its_line(door, secrets, capsys):
    pytest.importorskip("apprise")
    with open(door, "a", encoding="utf-8") as file:
        file.write('\n[[sink]]\nkind = "apprise"\nurls = ["nonsense://me:hunter2@x/y"]\n')

    assert main(["config", "check", str(door)]) == 78
    told = capsys.readouterr().err
    assert "apprise does not know address 1 of urls" in told and f"{door}, line " in told
    assert "hunter2" not in told


def test_a_folder_of_plain_pictures_needs_no_package(tmp_path, small, monkeypatch):
    path, folder = tmp_path / "x.toml", tmp_path / "in"
    folder.mkdir()
    (folder / "a.ppm").write_bytes(b"P6 1 1 255 abc")
    words = ["--bundle", str(small), "--camera", f"in=watch:{folder}?old=no"]
    assert main(["config", "init", str(path), *words]) == 0
    for module in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, module, None)

    assert main(["config", "check", str(path)]) == 0
    (folder / "b.jpg").touch()
    assert main(["config", "check", str(path)]) == 69


ALERTS = """
[[alert]]
name = "visitor"
when = "seen"
label = "class-0"

[[alert]]
name = "away"
when = "lost"

[[sink]]
kind = "webhook"
name = "phone"
url = "{url}"
cameras = ["front-door"]

[[sink]]
kind = "webhook"
name = "answers"
url = "http://127.0.0.1:1/"
events = ["answer"]
"""


def test_alerts_are_tried_where_they_reach_somebody(door, secrets, capsys):
    capsys.readouterr()
    with web_server() as (url, heard):
        with open(door, "a", encoding="utf-8") as file:
            file.write(ALERTS.format(url=url))
        assert main(["config", "test-alert", str(door)]) == 0
        told = capsys.readouterr().out.splitlines()
        assert main(["config", "test-alert", str(door), "away", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)

    own = "json-lines: not tried: it is the daemon's own, which may be running"
    assert told == [f"visitor -> {own}", "visitor -> phone: sent", f"away -> {own}", "away -> phone: sent"]
    assert [(tried["rule"], tried["output"], tried["sent"]) for tried in facts["messages"]] == [
        ("away", "json-lines", None),
        ("away", "phone", True),
    ]
    lines = [line for _, body in heard.events for line in json.loads(body)]
    assert [(line["event"], line["rule"], line["camera"]) for line in lines] == [
        ("alert", rule, "front-door") for rule in ("visitor", "away", "away")
    ]
    assert {line["why"] for line in lines} == {"this is a test, nothing has happened"}


def test_a_message_that_cannot_be_sent_is_told_with_74(door, secrets, capsys):
    with open(door, "a", encoding="utf-8") as file:
        file.write(ALERTS.format(url="http://127.0.0.1:1/"))

    assert main(["config", "test-alert", str(door), "away"]) == 74
    printed = capsys.readouterr()
    assert "away -> phone: NOT SENT: 127.0.0.1: ConnectionRefusedError" in printed.out
    assert "1 of 2 messages could not be sent" in printed.err
    assert main(["config", "test-alert", str(door), "nobody"]) == 2
    assert "there is no alert 'nobody'; there are: visitor, away" in capsys.readouterr().err


def test_without_an_alert_or_an_output_that_sends_it_there_is_nothing_to_try(door, secrets, capsys):
    assert main(["config", "test-alert", str(door)]) == 2
    assert "there is no [[alert]] to try" in capsys.readouterr().err
    with open(door, "a", encoding="utf-8") as file:
        file.write(ALERTS.partition("[[sink]]")[0])
    assert main(["config", "test-alert", str(door)]) == 2
    assert "no output sends alerts to anybody; add a [[sink]] of kind apprise or webhook" in capsys.readouterr().err
