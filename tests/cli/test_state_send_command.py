"""`ecotta state send` to a web server and a broker on this machine, and `ecotta state collect` on the gateway."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ecotta_rt.bundle import read_bundle
from ecotta_rt.cli import state_send
from ecotta_rt.cli.main import main
from ecotta_rt.daemon.saving.snapshot_files import camera_folder
from ecotta_rt.daemon.saving.snapshots import Snapshots, folder_locked
from ecotta_rt.fleet.drop.address import address_of
from ecotta_rt.fleet.drop.mqtt import publish
from ecotta_rt.state import AdaptState, FramesBehind
from fixtures.broker import Broker
from fixtures.web_server import web_server


@pytest.fixture
def source(checkout):
    return read_bundle(checkout / "tests" / "hostile" / "small.ecotta").initial_state()


@pytest.fixture
def folder(tmp_path, source):
    """A state folder of a camera that has learned, with a memory of places, and of one that begins anew."""
    learned = replace(
        source,
        metadata=FramesBehind(1000, 10).metadata(),
        adaptation={"places.means": np.ones((2, 2), np.float32)},
    )
    Snapshots(camera_folder(tmp_path / "state", "door"), source.network_digest).write(learned, "every 300 s")
    Snapshots(camera_folder(tmp_path / "state", "yard"), source.network_digest).write_source("reset")
    return tmp_path / "state"


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.stop()


def ecotta_state(capsys, *arguments):
    code = main(["state", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_newest_state_is_sent_without_what_concerns_nobody_else(folder, source, tmp_path, capsys):
    (tmp_path / "token").write_text("t0p\n")
    with web_server() as (url, heard), folder_locked(folder):  # a daemon may run
        code, out, _ = ecotta_state(
            capsys, "send", folder, "--camera", "door", "--to", url, "--secret-file", tmp_path / "token", "--json"
        )

    ((headers, body),) = heard.events
    sent = AdaptState.from_bytes(body, "sent")
    facts = json.loads(out)
    assert (code, facts["state"], facts["bytes"], facts["tries"]) == (0, "door, generation 1", len(body), 1)
    assert headers["Authorization"] == "Bearer t0p"
    assert (sent.adaptation, sent.behind) == ({}, FramesBehind(1000, 10))
    assert set(sent.compare(source).values()) == {0.0}


def test_a_state_of_ecotta_run_is_sent_too(source, tmp_path, capsys):
    source.save(tmp_path / "net.state.safetensors")
    with web_server() as (url, heard):
        code, out, _ = ecotta_state(capsys, "send", tmp_path / "net.state.safetensors", "--to", url)

    assert code == 0
    assert "net.state.safetensors: " in out and " bytes sent to http://127.0.0.1:" in out
    assert heard.events[0][1] == source.to_bytes()


def test_what_cannot_be_sent_is_an_input_output_error(folder, capsys):
    with web_server(503) as (url, _):
        code, out, err = ecotta_state(capsys, "send", folder, "--camera", "door", "--to", url, "--tries", "1")

    assert (code, out) == (74, "")
    assert "the state was not sent: http://127.0.0.1" in err and "answered 503" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--camera", "yard", "--to", "http://127.0.0.1:1/"], 2, "nothing is saved since"),
        (["--to", "http://127.0.0.1:1/"], 2, "name one with --camera"),
        (["--camera", "door", "--to", "door"], 2, "expected an address like https://HOST/PATH"),
        (["--camera", "door", "--to", "http://127.0.0.1:1/", "--tries", "0"], 2, "give 1 to 20"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder, capsys, arguments, code, said):
    found, out, err = ecotta_state(capsys, "send", folder, *arguments)

    assert (found, out) == (code, "")
    assert said in err


def test_states_go_by_a_broker_to_the_folder_of_a_gateway(folder, source, broker, tmp_path, capsys):
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed: extra `mqtt`")
    boards = f"mqtt://127.0.0.1:{broker.port}/boards"
    shutil.copytree(folder / "door", folder / "gate")
    for camera in ("door", "gate"):
        assert ecotta_state(capsys, "send", folder, "--camera", camera, "--to", f"{boards}/{camera}/state")[0] == 0
    publish(address_of(f"{boards}/..%2Fshed/state"), b"no state")
    publish(address_of(f"{boards}/empty/state"), b"\0")
    target = tmp_path / "boards"

    code, out, err = ecotta_state(capsys, "collect", target, "--from", f"{boards}/+/state", "--quiet", "0.3", "--json")

    facts = json.loads(out)
    assert (code, facts["taken"]) == (0, ["door", "gate"])
    assert [*facts["passed_over"]] == ["boards/empty/state"]
    assert "warning: passed over: boards/empty/state: not a safetensors file" in err
    assert sorted(path.name for path in target.iterdir()) == ["door.state.safetensors", "gate.state.safetensors"]
    assert AdaptState.load(target / "door.state.safetensors").behind == FramesBehind(1000, 10)


def test_a_gateway_asks_a_broker(tmp_path, capsys):
    code, _, err = ecotta_state(capsys, "collect", tmp_path, "--from", "https://127.0.0.1/boards/")

    assert code == 2
    assert "collect asks an MQTT broker" in err
    assert ecotta_state(capsys, "collect", tmp_path, "--from", "mqtt://h/x", "--quiet", "0")[0] == 2


def test_waits_between_tries_are_told(folder, capsys, monkeypatch):
    from ecotta_rt.machine import clock

    slept = clock.ManualClock()
    monkeypatch.setattr(clock, "SystemClock", lambda: slept)
    with web_server(502, 502) as (url, heard):
        code, _, err = ecotta_state(capsys, "send", folder, "--camera", "door", "--to", url)

    assert (code, len(heard.events), len(slept.slept_s)) == (0, 3, 2)
    assert "answered 502; once more in" in err
    assert state_send.NAME == "send"
