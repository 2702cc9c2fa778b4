"""Whatever a configuration names, its unit has the lines that we wrote, and no other."""

import string
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.daemon.configuration.config import Config, Output
from ecotta_rt.daemon.configuration.tables import CameraOptions, NetworkOptions, StateOptions
from ecotta_rt.daemon.systemd.unit import Service, unit_text
from ecotta_rt.daemon.systemd.unit_needs import MemoryNeed
from ecotta_rt.sinks.json_lines import JsonLinesOptions

# Texts of a configuration are printable and on one line; a path is absolute.
PATHS = st.text(string.printable.split("\t")[0] + "äß猫", min_size=1, max_size=20).map(lambda text: f"/srv/{text}")


def service(program="/opt/ecotta", path="/etc/x.toml", folder="/srv/s", file="/srv/f", secret="/srv/t"):
    config = Config(
        NetworkOptions("/etc/net.ecotta"),
        (CameraOptions("door", "/dev/video0"),),
        StateOptions(folder),
        (Output("json-lines", "a", JsonLinesOptions(file=file)),),
    )
    memory = MemoryNeed(1 << 28, ("for a test",))
    return Service("ecotta-x", config, path, program, memory, {"token": secret}, "/etc/x.env")


def keys(text):
    return [line.partition("=")[0] for line in text.splitlines() if not line.startswith("#")]


@given(program=PATHS, path=PATHS, folder=PATHS, file=PATHS, secret=PATHS)
def test_no_name_adds_a_line_or_a_directive(program, path, folder, file, secret):
    text = unit_text(service(program, path, folder, f"{file}/f", secret))

    assert keys(text) == keys(unit_text(service()))


def test_what_systemd_would_read_as_something_else_is_escaped():
    text = unit_text(service("/opt/my programs/ecotta", "/etc/$HOME/100%.toml"))

    assert 'ExecStart="/opt/my programs/ecotta" serve /etc/$$HOME/100%%.toml' in text.splitlines()


def test_a_folder_that_pictures_are_taken_out_of_may_be_written():
    for after, there in (("move", True), ("delete", True), ("keep", False)):
        config = Config(
            NetworkOptions("/etc/net.ecotta"),
            (CameraOptions("door", f"watch:/srv/my pictures?every=2&after={after}"),),
            StateOptions(),
        )
        text = unit_text(replace(service(), config=config))

        assert ('ReadWritePaths="/srv/my pictures"' in text.splitlines()) is there
