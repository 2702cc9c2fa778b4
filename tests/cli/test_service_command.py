import os
import shutil
import stat
import subprocess

import pytest

from ecotta_rt.cli import service
from ecotta_rt.cli.main import main
from ecotta_rt.demo.shipped import unpacked_bundle

CONFIG = """\
config_version = 1

[network]
bundle = "{bundle}"
memory_limit = "200MiB"

[[camera]]
name = "door"
source = "{source}"

{added}
"""


@pytest.fixture(scope="module")
def network():
    with unpacked_bundle() as path:
        yield path


@pytest.fixture
def write(tmp_path, network):
    """Writes a configuration for a bundle with the planner's figures."""

    def write(source="synthetic:door", added="", bundle=network):
        path = tmp_path / "door.toml"
        path.write_text(CONFIG.format(bundle=bundle, source=source, added=added), encoding="utf-8")
        return path

    return write


@pytest.fixture
def printed(capsys):
    """The unit that `ecotta service show` prints, as its lines."""

    def printed(path, *options):
        assert main(["service", "show", str(path), "--program", "/opt/ecotta/bin/ecotta", *options]) == 0
        return capsys.readouterr().out.splitlines()

    return printed


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """A double of systemctl that notes what it was asked for, and units in a folder of the test's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ ! -e {tmp_path}/broken ]\n', encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(service, "SYSTEM_UNITS", tmp_path / "units")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path


def asked(systemctl):
    return (systemctl / "asked").read_text(encoding="ascii").splitlines()


def test_the_example_is_what_the_command_prints(checkout, tmp_path, network, printed):
    examples = checkout / "docs" / "examples"
    text = (examples / "ecotta.toml").read_text(encoding="utf-8")
    text = text.replace("/etc/ecotta/net.ecotta", str(network)).replace("/etc/ecotta/token", f"{tmp_path}/token")
    (tmp_path / "ecotta.toml").write_text(text, encoding="utf-8")
    (tmp_path / "ecotta.env").write_text("CAMERA_USER=door\nCAMERA_PASSWORD='hunter 2'\n", encoding="utf-8")
    (tmp_path / "token").write_text("0123456789abcdef\n", encoding="utf-8")

    unit = "\n".join(printed(tmp_path / "ecotta.toml")) + "\n"

    assert unit.replace(str(tmp_path), "/etc/ecotta") == (examples / "ecotta.service").read_text(encoding="utf-8")
    assert "hunter" not in unit and "0123456789abcdef" not in unit


def test_a_camera_of_this_machine_is_the_only_device(write, printed):
    lines = printed(write("/dev/video0"))

    assert "DeviceAllow=char-video4linux rw" in lines and "SupplementaryGroups=video" in lines
    assert "DevicePolicy=closed" in lines
    assert not any(line.startswith("PrivateDevices") for line in lines)
    assert "RestrictAddressFamilies=AF_UNIX" in lines and "PrivateNetwork=yes" in lines


def test_a_camera_on_the_network_needs_no_device(write, printed):
    lines = printed(write("rtsp://10.0.0.7/live"))

    assert "PrivateDevices=yes" in lines
    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6" in lines
    assert "After=network-online.target" in lines
    assert not any(line.startswith(("PrivateNetwork", "IPAddressDeny", "DeviceAllow")) for line in lines)


def test_a_door_to_this_machine_alone_reaches_no_further(write, printed):
    lines = printed(write(added="[http]\nenabled = true\n"))

    assert "IPAddressDeny=any" in lines and "IPAddressAllow=localhost" in lines
    assert "After=network-online.target" not in lines


@pytest.mark.parametrize(
    ("added", "line"),
    [
        ("", "StateDirectory=ecotta-door"),
        ('[state]\nfolder = "/var/lib/cameras/door"\n', "StateDirectory=cameras/door"),
        ('[state]\nfolder = "/srv/door"\n', "ReadWritePaths=/srv/door"),
        ('[[camera]]\nname = "w"\nsource = "watch:/srv/in?after=delete"\n', "ReadWritePaths=/srv/in"),
        ('[[sink]]\nkind = "csv"\nfile = "/var/log/door/a.csv"\n', "LogsDirectory=door"),
    ],
)
def test_folders_to_write_to_are_made_by_systemd_where_it_can(write, printed, added, line):
    assert line in printed(write(added=added))


def test_the_memory_limit_stands_above_that_of_the_guard(write, printed):
    lines = printed(write())

    assert "MemoryMax=220M" in lines  # 10 % above 200 MiB
    assert any("planned for wrn-40-2" in line for line in lines)


def test_without_a_limit_of_its_own_the_plan_and_half_of_it_are(write, printed):
    path = write()
    path.write_text(path.read_text(encoding="utf-8").replace('memory_limit = "200MiB"', ""), encoding="utf-8")
    lines = printed(path)
    (limit,) = (int(line.removeprefix("MemoryMax=").removesuffix("M")) for line in lines if "MemoryMax=" in line)

    assert 100 <= limit <= 220


def test_what_does_not_fit_is_refused(write, capsys):
    path = write()
    path.write_text(path.read_text(encoding="utf-8").replace("200MiB", "80MiB"), encoding="utf-8")

    assert main(["service", "show", str(path)]) == 3


def test_secrets_of_root_are_handed_over_by_systemd(write, printed, tmp_path, capsys):
    (tmp_path / "token").write_text("0123456789abcdef", encoding="utf-8")
    (tmp_path / "door.env").write_text("# of the camera\nADDRESS=/dev/video3\n", encoding="utf-8")
    lines = printed(write("${ADDRESS}", f'[http]\nenabled = true\ntoken = "file:{tmp_path}/token"\n'))

    assert f"LoadCredential=token:{tmp_path}/token" in lines
    assert f"EnvironmentFile={tmp_path}/door.env" in lines
    assert "DeviceAllow=char-video4linux rw" in lines


def test_a_variable_of_this_shell_is_none_of_the_services(write, monkeypatch, capsys):
    monkeypatch.setenv("ADDRESS", "/dev/video3")
    path = write("${ADDRESS}")

    assert main(["service", "show", str(path)]) == 78
    told = capsys.readouterr().err
    assert "there is no environment variable ADDRESS" in told
    assert f"A service gets its environment variables from {path.with_suffix('.env')}" in told


def test_two_secret_files_of_one_name_are_refused(write, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text("rtsp://10.0.0.7/a-long-token", encoding="utf-8")
    path = write(f"file:{tmp_path}/a/x", f'[http]\ntoken = "file:{tmp_path}/b/x"\n')

    assert main(["service", "show", str(path)]) == 78
    assert "two secret files are called 'x'" in capsys.readouterr().err


def test_a_relative_path_is_refused_since_a_service_runs_elsewhere(write, network, monkeypatch, capsys):
    monkeypatch.chdir(network.parent)

    assert main(["service", "show", str(write(bundle=network.name))]) == 78
    assert f"is a relative path, and a service runs in /; write {network}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "added"),
    [
        ("synthetic:door", '[[sink]]\nkind = "socket"\npath = "run/events"\n'),
        ("watch:pictures", ""),
        ("replay:CIFAR-10-C:fog", ""),
        ("synthetic:door", '[[sink]]\nkind = "webhook"\nurl = "https://10.0.0.2/"\nca_file = "ca.pem"\n'),
    ],
)
def test_a_relative_path_is_found_wherever_it_stands(write, source, added, capsys):
    assert main(["service", "show", str(write(source, added))]) == 78
    assert "is a relative path, and a service runs in /" in capsys.readouterr().err


def test_nothing_can_add_a_line_to_a_unit(write, tmp_path, capsys):
    """Who may edit a configuration is not root for that."""
    secret = tmp_path / "d\nExecStartPre=+id\nX-"
    secret.write_text("synthetic:door", encoding="utf-8")
    assert main(["service", "show", str(write(f"file:{tmp_path}/d\\nExecStartPre=+id\\nX-"))]) == 78

    (tmp_path / "50%t").write_text("synthetic:door", encoding="utf-8")
    assert main(["service", "show", str(write(f"file:{tmp_path}/50%t"))]) == 78
    assert "a credential cannot be called '50%t'" in capsys.readouterr().err

    folder = tmp_path / "a\nb"
    folder.mkdir()
    path = write().rename(folder / "door.toml")
    assert main(["service", "show", str(path)]) == 78


def test_a_unit_is_written_enabled_and_started(write, systemctl, capsys):
    path = write()

    assert main(["service", "install", str(path), "--force"]) == 0

    unit = systemctl / "units" / "ecotta-door.service"
    assert unit.read_text(encoding="utf-8").startswith(f"# Made by `ecotta service install {path}`")
    assert stat.S_IMODE(unit.stat().st_mode) == 0o644
    assert asked(systemctl) == ["daemon-reload", "enable ecotta-door", "restart ecotta-door"]
    assert "journalctl --unit ecotta-door" in capsys.readouterr().err


def test_a_unit_of_a_user_is_among_the_users(write, systemctl):
    assert main(["service", "install", str(write()), "--user", "--no-start", "--name", "door"]) == 0

    text = (systemctl / "home" / "systemd" / "user" / "door.service").read_text(encoding="utf-8")
    assert "WantedBy=default.target" in text and "DynamicUser" not in text
    assert asked(systemctl) == ["--user show-environment", "--user daemon-reload"]


def test_without_a_manager_of_the_user_nothing_is_written(write, systemctl, capsys):
    (systemctl / "broken").touch()

    assert main(["service", "install", str(write()), "--user"]) == 69
    told = capsys.readouterr().err
    assert "nothing was written" in told and "loginctl enable-linger" in told
    assert asked(systemctl) == ["--user show-environment"]
    assert not (systemctl / "home").exists()


def test_without_a_manager_of_the_user_the_unit_is_taken_away_all_the_same(write, systemctl, capsys):
    path = write()
    assert main(["service", "install", str(path), "--user", "--no-start"]) == 0
    units = systemctl / "home" / "systemd" / "user"
    (units / "default.target.wants").mkdir()
    (units / "default.target.wants" / "ecotta-door.service").symlink_to(units / "ecotta-door.service")
    (systemctl / "broken").touch()

    assert main(["service", "uninstall", str(path), "--user"]) == 0
    told = capsys.readouterr().err
    assert "warning: `systemctl --user disable --now ecotta-door` failed" in told
    assert "if it runs, it was not stopped" in told
    assert [file for file in units.rglob("*") if not file.is_dir()] == []


def test_a_unit_is_taken_away(write, systemctl, capsys):
    path = write()
    assert main(["service", "uninstall", str(path)]) == 2
    assert main(["service", "install", str(path), "--force", "--no-start"]) == 0
    path.unlink()

    assert main(["service", "uninstall", str(path)]) == 0

    assert not (systemctl / "units" / "ecotta-door.service").exists()
    assert asked(systemctl) == ["daemon-reload", "disable --now ecotta-door", "daemon-reload"]


def test_a_unit_of_somebody_else_is_left_alone(write, systemctl, capsys):
    unit = systemctl / "units" / "ecotta-door.service"
    unit.parent.mkdir()
    unit.write_text("[Unit]\n", encoding="ascii")

    assert main(["service", "uninstall", str(write())]) == 2
    assert main(["service", "install", str(write()), "--user"]) == 0  # another place
    assert unit.read_text(encoding="ascii") == "[Unit]\n"


def test_what_the_services_user_cannot_read_keeps_it_from_being_installed(write, systemctl, capsys):
    path = write()  # in a temporary folder, of which a service has its own

    assert main(["service", "install", str(path)]) == 2
    told = capsys.readouterr().err
    assert f"warning: {path} cannot be read by others" in told
    assert not (systemctl / "units").exists()


def test_a_systemctl_that_fails_is_told_of(write, systemctl, capsys):
    (systemctl / "broken").touch()

    assert main(["service", "install", str(write()), "--force"]) == 74
    assert "`systemctl daemon-reload` failed" in capsys.readouterr().err


def test_a_machine_without_systemd_is_told_to_show_the_unit(write, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(service, "SYSTEM_UNITS", tmp_path / "units")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main(["service", "install", str(write()), "--force"]) == 69


def test_a_name_that_is_none_is_refused(write, capsys):
    assert main(["service", "show", str(write()), "--name", "a b"]) == 2


@pytest.fixture
def analyze():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")

    def analyze(*words):
        return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False, timeout=60)

    return analyze


@pytest.mark.parametrize("source", ["/dev/video0", "rtsp://10.0.0.7/live", "synthetic:door", "picamera:"])
def test_systemd_finds_nothing_wrong_with_a_unit(analyze, write, printed, tmp_path, source):
    program = tmp_path / "with space" / "ecotta 100%"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n", encoding="ascii")
    program.chmod(0o755)
    unit = tmp_path / "ecotta-door.service"
    unit.write_text("\n".join(printed(write(source), "--program", str(program))) + "\n", encoding="utf-8")

    done = analyze("verify", "--man=no", str(unit))

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_calls_the_exposure_small(analyze, write, printed, tmp_path):
    unit = tmp_path / "ecotta-door.service"
    unit.write_text("\n".join(printed(write("/dev/video0"))) + "\n", encoding="utf-8")

    done = analyze("security", "--offline=true", "--threshold=20", str(unit))

    assert done.returncode == 0, done.stdout[-200:]
