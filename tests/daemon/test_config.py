"""What a configuration may say, and how it is told what it may not."""

import pytest

from ecotta_rt.daemon.configuration.config_reading import read_config
from ecotta_rt.daemon.configuration.config_version import MIGRATIONS
from ecotta_rt.daemon.configuration.tables import CameraOptions, NetworkOptions
from ecotta_rt.daemon.http.http_options import HttpOptions
from ecotta_rt.errors import ConfigurationError


def test_a_file_that_names_a_bundle_and_a_camera_is_enough(read_camera, named_bundle, tmp_path):
    config = read_camera()

    assert config.network == NetworkOptions(str(named_bundle))
    assert config.cameras == (CameraOptions("front-door", "/dev/video0"),)
    assert config.sinks == ()
    assert config.http == HttpOptions() and not config.http.enabled and config.http.host == "127.0.0.1"
    assert config.state_folder == named_bundle.with_suffix(".state")
    assert config.path == str(tmp_path / "door.toml")


def test_every_fault_is_named_with_its_line_at_once(read_camera, tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        read_camera('top = 500\nshare = "half"\n[http]\nprot = 1\n[[sink]]\nkind = "jsonlines"\n[nework]\n')

    told = str(caught.value)
    path = tmp_path / "door.toml"
    assert caught.value.exit_code == 78
    assert told.startswith("5 faults\n")
    assert f"{path}, line 9: field 'camera[0].top': expected a whole number from 0 to 100, found 500" in told
    assert f"{path}, line 10: field 'camera[0].share': expected a number above 0 and at most 1000, found 'half'" in told
    assert f"{path}, line 12: field 'http.prot': unknown field; did you mean port? known here: enabled" in told
    assert f"{path}, line 14: field 'sink[0].kind': expected one of " in told
    assert "found 'jsonlines'; did you mean json-lines?" in told
    assert f"{path}, line 15: field 'nework': unknown table; did you mean network?" in told


def test_faults_of_names_and_of_what_is_not_there_are_told_in_the_same_round(read_camera, tmp_path, named_bundle):
    named_bundle.unlink()
    with pytest.raises(ConfigurationError) as caught:
        read_camera(
            'top = 500\n[[camera]]\nname = "Front_Door"\nsource = "-"\n[http]\nenabled = true\nhost = "0.0.0.0"\n'
            '[[sink]]\nkind = "json-lines"\ncameras = ["dor", "Front_Door"]\nevents = ["answer"]\n'
            '[[alert]]\nname = "a"\nwhen = "lost"\ncameras = ["front-dor"]\n'
        )

    told = str(caught.value)
    assert told.startswith("6 faults\n")
    for problem in (
        "'camera[0].top': expected a whole number",
        "'Front_Door' is there already",
        "net.ecotta: no such file",
        "there is no camera 'dor'",
        "there is no camera 'front-dor'; did you mean front-door?",
        "0.0.0.0 lets others on the network ask",
    ):
        assert problem in told


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ('[[camera]]\nname = "Front_Door"\nsource = "/dev/video1"\n', "is there already"),
        ('[[camera]]\nname = "b"\nsource = "/dev/video0"\n', "is the device of camera 'front-door'"),
        (
            '[[camera]]\nname = "b"\nsource = "-"\n[[camera]]\nname = "c"\nsource = "stdin:?every=yes"\n',
            "is the device of camera 'b'",
        ),
        ('[[camera]]\nname = "b"\nsource = "synthetic:x?fast=1"\n', "fast: unknown field"),
        ('[[camera]]\nname = "b"\nsource = "watch:/srv?after=eat"\n', "expected one of keep, delete, move"),
        ('[[camera]]\nname = "b"\nsource = "http://h/x#every=0"\n', "every: expected a number"),
        ('[[camera]]\nname = "b"\nsource = "/no/such/film.mp4"\n', "no such file or folder"),
        (f'[[camera]]\nname = "b"\nsource = "{"x" * 4000}"\n', "expected one of .*, found xxx"),
        (
            '[[camera]]\nname = "b"\nsource = "picamera:"\n[[camera]]\nname = "c"\nsource = "picamera:0?fps=5"\n',
            "is the device of camera 'b'",
        ),
        ('[[camera]]\nname = "b"\nsource = "gopher://10.0.0.7/x"\n', "replay:FOLDER, found gopher://"),
        ('[[camera]]\nname = "a/b"\nsource = "/dev/video1"\n', "letters, digits, - and _"),
        ("[[http]]\nport = 1\n", r"write \[http\], with single brackets"),
        ('[http]\nhost = "127.0.0.256"\n', "is no address"),
        ('[http]\nenabled = true\nhost = "0.0.0.0"\n', "'http.host': 0.0.0.0 lets others on the network ask"),
        ('[http]\nhost = "http://me"\n', "without port"),
        ('[sink]\nkind = "json-lines"\n', r"write \[\[sink\]\], with double brackets"),
        ('[[sink]]\nfile = "x"\n', r"'sink\[0\].kind': missing"),
        ('[[sink]]\nkind = "json-lines"\n' * 2, "'json-lines' is there already"),
        (
            '[[sink]]\nkind = "json-lines"\n[[sink]]\nkind = "json-lines"\nname = "b"\n',
            "'b' would write to standard output, which is that of output 'json-lines'",
        ),
        ('[[sink]]\nkind = "json-lines"\ncameras = ["door"]\n', "there is no camera .door.; there are: front-door"),
        ('[[alert]]\nname = "a"\nwhen = "seen"\n', r"line 9: field 'alert\[0\]': when = \"seen\" needs `label`"),
        ('[[alert]]\nname = "a"\nwhen = "event"\n', 'when = "event" needs `events`'),
        (
            '[[alert]]\nname = "a"\nwhen = "lost"\nevents = ["drift"]\n',
            '`events` is for when = "event" alone, and this',
        ),
        ('[[alert]]\nname = "a"\nwhen = "lost"\ncameras = ["yard"]\n', "there is no camera 'yard'"),
        ('[[alert]]\nname = "a"\nwhen = "lost"\n' * 2, "'a' is there already"),
        ('[[sink]]\nkind = "json-lines"\nevents = ["anser"]\n', "found 'anser'; did you mean answer?"),
        ("[signs]\nevery_s = nan\n", "from 1 to 86400"),
        ('[log]\nlevel = "loud"\n', "expected one of debug, info, warning, error"),
        ("http = 3\n", "unknown field"),
    ],
)
def test_what_cannot_be_meant_is_refused(read_camera, added, problem):
    with pytest.raises(ConfigurationError, match=problem):
        read_camera(added)


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://",
        "rtsp:///live",
        "rtsp://a:b@/live",
        "rtsp://10.0.0.7:99999/",
        "rtsp://[::1/live",
        "rtsps://u:p/w@10.0.0.7/",
    ],
)
def test_an_address_that_does_not_parse_is_refused_without_its_password(read_camera, address):
    with pytest.raises(ConfigurationError, match="HOST:PORT before the path, found") as caught:
        read_camera(camera=f'source = "{address}"')

    assert "b@" not in str(caught.value) and "p/w" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["rtsp://10.0.0.7", "rtsp://u:p%40w@cam.local:554/live?x=1", "http://[fe80::1%eth0]:80/", "rtsp://cam_1/a@b:c"],
)
def test_an_address_is_taken_as_it_is(read_camera, address):
    assert read_camera(camera=f'source = "{address}"').cameras[0].source == address


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        ('memory_limit = "200 apples"', "is not a size"),
        ('device = "raspbery-pi-4-2gb"', "did you mean raspberry-pi-4-2gb"),
        ("threads = 0", "from 1 to 1024"),
        ("batch = 2", "expected one of 1"),
    ],
)
def test_what_a_network_cannot_be_run_with_is_refused(read_camera, network, problem):
    with pytest.raises(ConfigurationError, match=problem):
        read_camera(network=network)


def test_a_bundle_that_is_missing_is_found_before_anything_starts(read_camera, named_bundle):
    named_bundle.unlink()

    with pytest.raises(
        ConfigurationError,
        match=r"line 4: field 'network.bundle': .*no such file, or none that may be read; expected a bundle",
    ):
        read_camera()


def test_a_file_without_cameras_is_told_how_to_name_one(tmp_path, named_bundle):
    path = tmp_path / "x.toml"
    path.write_text(f'config_version = 1\nnetwork.bundle = "{named_bundle}"\n', encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"no camera; write a table \[\[camera\]\]"):
        read_config(path, {})


def test_a_file_that_is_not_there_is_told_of(tmp_path):
    with pytest.raises(ConfigurationError, match="none.toml: there is no such file; `ecotta config init` writes one"):
        read_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("", "'config_version': missing; write config_version = 1 above the first table"),
        ("config_version = 2", "2 is newer than 1, the newest this ecotta_rt reads; update ecotta_rt"),
        ("config_version = 0", "there is no version 0"),
        ("config_version = true", "expected a whole number"),
    ],
)
def test_a_version_that_is_unknown_is_refused_with_advice(read_camera, version, problem):
    with pytest.raises(ConfigurationError, match=problem):
        read_camera(version=version)


def test_an_older_version_is_brought_up_to_date(read_camera, monkeypatch):
    def from_zero(values):
        (camera,) = values["camera"]
        return {**values, "camera": [{"name": camera["name"], "source": camera["address"]}]}

    monkeypatch.setitem(MIGRATIONS, 0, from_zero)

    config = read_camera(version="config_version = 0", camera='address = "/dev/video7"')

    assert config.cameras[0].source == "/dev/video7"


def test_snapshots_are_in_the_folder_that_systemd_gives_unless_another_is_named(read_camera):
    systemd = {"STATE_DIRECTORY": "/var/lib/ecotta:/var/lib/other"}

    assert str(read_camera(environ=systemd).state_folder) == "/var/lib/ecotta"
    assert str(read_camera('[state]\nfolder = "/srv/door"\n', systemd).state_folder) == "/srv/door"


@pytest.mark.parametrize(
    ("file", "whose"),
    [
        ("net.ecotta", "the bundle"),
        ("link.ecotta", "the bundle"),
        ("door.toml", "the configuration"),
        ("film.mp4", "camera 'film'"),
        ("token", "a secret"),
        ("net.state/answers.jsonl", "in the folder of the states"),
        ("other.jsonl.1", "output 'other', put aside"),
    ],
)
@pytest.mark.parametrize("kind", ["json-lines", "csv"])
def test_an_output_into_a_file_that_the_daemon_needs_is_refused(read_camera, tmp_path, kind, file, whose):
    (tmp_path / "film.mp4").write_bytes(b"film")
    (tmp_path / "token").write_bytes(b"0123456789abcdef")
    (tmp_path / "link.ecotta").symlink_to("net.ecotta")
    added = f'[[camera]]\nname = "film"\nsource = "{tmp_path}/film.mp4"\n[http]\ntoken = "file:{tmp_path}/token"\n'

    added += f'[[sink]]\nkind = "json-lines"\nname = "other"\nfile = "{tmp_path}/other.jsonl"\n'

    with pytest.raises(ConfigurationError, match=whose):
        read_camera(f'{added}[[sink]]\nkind = "{kind}"\nfile = "{tmp_path}/{file}"\n')


def test_a_file_that_another_output_puts_lines_aside_in_is_refused_in_either_order(read_camera, tmp_path):
    sink = '[[sink]]\nkind = "json-lines"\nname = "{name}"\nfile = "{folder}/{name}"\n'
    first, second = (sink.format(name=name, folder=tmp_path) for name in ("a", "a.1.gz"))

    for added in (first + second, second + first):
        with pytest.raises(ConfigurationError, match="would write to .*a.1.gz, which is that of output"):
            read_camera(added)


def test_a_bundle_whose_name_is_too_long_or_hidden_is_a_fault_and_no_crash(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(f'config_version = 1\n[network]\nbundle = "{"x" * 4000}"\n[[camera]]\nname = "a"\nsource = "-"\n')

    with pytest.raises(ConfigurationError, match="no such file, or none that may be read"):
        read_config(path, {})


def test_names_of_alerts_and_outputs_may_be_in_any_script(read_camera):
    alerts = "".join(f'[[alert]]\nname = "{name}"\nwhen = "lost"\n' for name in ("猫", "犬"))

    assert [rule.name for rule in read_camera(alerts).alert_rules] == ["猫", "犬"]
