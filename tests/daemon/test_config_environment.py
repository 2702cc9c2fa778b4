"""Fields that environment variables set, and texts that come from elsewhere."""

import pytest

from ecotta_rt.errors import ConfigurationError

RTSP = 'source = "rtsp://${CAMERA_USER}:${CAMERA_PASSWORD}@10.0.0.7/live"'
DOOR = {"CAMERA_USER": "door", "CAMERA_PASSWORD": "hunter2"}


def test_an_environment_variable_sets_a_field_and_wins_over_the_file(read_camera):
    config = read_camera(
        "[http]\nport = 1\n",
        {
            "ECOTTA_SERVE__HTTP__PORT": "9000",
            "ECOTTA_SERVE__LOG__LEVEL": "debug",
            "ECOTTA_SERVE__CAMERA__FRONT_DOOR__SOURCE": "/dev/video5",
            "ECOTTA_SERVE__CAMERA__FRONT_DOOR__ADAPT": "false",
            "ECOTTA_SERVE__NETWORK__MEMORY_LIMIT": "150MiB",
            "HOME": "/root",
        },
    )

    assert config.http.port == 9000
    assert config.log.level == "debug"
    assert config.cameras[0].source == "/dev/video5" and not config.cameras[0].adapt
    assert config.network.memory_limit_bytes == 150 << 20


def test_an_output_is_set_by_its_name_or_else_its_kind(read_camera):
    unnamed, named = '[[sink]]\nkind = "json-lines"\n', '[[sink]]\nkind = "json-lines"\nname = "log"\n'

    assert read_camera(unnamed, {"ECOTTA_SERVE__SINK__JSON_LINES__QUEUE": "7"}).sinks[0].options.queue == 7
    assert read_camera(named, {"ECOTTA_SERVE__SINK__LOG__EVENTS": '["answer"]'}).sinks[0].options.events == ("answer",)


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        ("HTTP__PROT", "1", "sets no field; did you mean ECOTTA_SERVE__HTTP__PORT?"),
        ("CAMERA__BACK__SOURCE", "x", "sets no field"),
        ("HTTP__PORT", "nine", "expected a number, true, false or a list, as in TOML"),
        ("HTTP__PORT", "1\nhost = 2", "expected a number, true, false or a list"),
        (
            "HTTP__PORT",
            "99999",
            "ECOTTA_SERVE__HTTP__PORT: expected a whole number from 0 to 65535",
        ),
        ("LOG__LEVEL", "loud", "environment variable ECOTTA_SERVE__LOG__LEVEL: expected one of debug"),
    ],
)
def test_a_mistyped_variable_is_an_error_as_a_mistyped_field_is(read_camera, variable, text, problem):
    with pytest.raises(ConfigurationError, match=problem) as caught:
        read_camera(environ={f"ECOTTA_SERVE__{variable}": text})

    assert variable in str(caught.value)


def test_a_text_may_hold_what_the_environment_has(read_camera):
    assert read_camera(environ=DOOR, camera=RTSP).cameras[0].source == "rtsp://door:hunter2@10.0.0.7/live"


def test_two_dollars_stand_for_one_before_a_brace(read_camera):
    assert read_camera(camera='source = "/dev/$${x}"').cameras[0].source == "/dev/${x}"


def test_a_text_may_come_from_a_file(read_camera, tmp_path):
    (tmp_path / "address").write_text("rtsp://10.0.0.8/live\n", encoding="utf-8")

    assert read_camera(camera=f'source = "file:{tmp_path}/address"').cameras[0].source == "rtsp://10.0.0.8/live"


def test_a_credential_of_the_unit_stands_for_the_file_it_was_loaded_from(read_camera, tmp_path):
    (tmp_path / "token").write_text("abc", encoding="utf-8")
    systemd = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert read_camera('[http]\ntoken = "file:/root/only/token"\n', systemd).http.token == "abc"
    assert read_camera('[http]\ntoken = "file:token"\n', systemd).http.token == "abc"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("rtsp://${NOBODY}@10.0.0.7", "line 8: field 'camera[0].source': there is no environment variable NOBODY"),
        ("rtsp://${", "a ${ without the name of a variable"),
        ("${a b}", "a ${ without the name of a variable"),
        ("file:/no/such/file", "'/no/such/file' cannot be read: No such file or directory"),
        ("file:/dev/zero", "it is a character device, not a regular file"),
        ("file:token", "names a credential of a systemd unit; elsewhere give a path"),
        ("file:/a\\u0000b", "expected the name of a file on one line"),
        ("file:/a\\nExecStartPre=+/bin/sh", "expected the name of a file on one line"),
        ("${EMPTY}", "field 'camera[0].source': expected a text, and the environment EMPTY has none; it is empty"),
    ],
)
def test_a_secret_that_is_missing_is_an_error_that_names_field_and_line(read_camera, source, problem):
    with pytest.raises(ConfigurationError) as caught:
        read_camera(camera=f'source = "{source}"', environ={"EMPTY": ""})

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "added",
    [
        '[http]\nport = "${CAMERA_PASSWORD}"\n',
        '[http]\nhost = "${CAMERA_PASSWORD}!"\n',
        "[http]\ntoken = { hunter2 = 1 }\n",
        '[log]\nlevel = "${CAMERA_PASSWORD}"\n',
        '[http]\ntoken = ["hunter2"]\n',
        '[[sink]]\nkind = "${CAMERA_PASSWORD}"\n',
        '[[camera]]\nname = "b"\nsource = "${CAMERA_PASSWORD}"\n',
        '[[camera]]\nname = "b"\nsource = "gopher://${CAMERA_USER}:${CAMERA_PASSWORD}@10.0.0.1/"\n',
    ],
)
def test_a_secret_is_in_no_message(read_camera, added):
    with pytest.raises(ConfigurationError) as caught:
        read_camera(added, DOOR)

    assert "hunter2" not in str(caught.value)


def test_a_secret_of_a_letter_leaves_the_message_as_it_is(read_camera):
    with pytest.raises(ConfigurationError, match="expected a whole number from 0 to 65535, found something else"):
        read_camera('[http]\nport = "${LETTER}"\n', {"LETTER": "e"})


def test_a_variable_that_could_mean_two_tables_means_neither(read_camera):
    alerts = "".join(f'[[alert]]\nname = "{name}"\nwhen = "lost"\n' for name in ("猫", "犬"))

    with pytest.raises(ConfigurationError, match="sets no field"):
        read_camera(alerts, {"ECOTTA_SERVE__ALERT_____FOR_S": "5"})
