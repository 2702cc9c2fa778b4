"""Nothing that is said gives away a password, and nothing is an order to the terminal."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.errors import EcottaError
from ecotta_rt.messages import mask, printable, show, tell
from ecotta_rt.sources.camera import rtsp_camera
from ecotta_rt.sources.opening import open_source

# What a password may hold; the masker knows the end of an address by white space before another one.
PASSWORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(
    lambda text: f"Geheim{text}Wort"
)
SCHEMES = st.sampled_from(["rtsp://", "RTSP://", "rtsps://", "rtsp:/", "rtsp:", "http://", "mqtt://", "foo+bar://"])


@given(
    SCHEMES,
    PASSWORDS,
    st.sampled_from(["{}", "{}: no such file or folder", "film, not {}", "unrecognized arguments: {}"]),
)
def test_a_password_before_the_host_is_masked(scheme, password, message):
    text = mask(message.format(f"{scheme}admin:{password}@10.0.0.7/live"))

    assert "Geheim" not in text and "Wort" not in text
    assert "@10.0.0.7/live" in text


def test_a_secret_elsewhere_in_an_address_is_masked(subtests):
    for address in [
        "rtsp://10.0.0.7/live?token=Geheim",
        "rtsp://10.0.0.7/live?channel=1&password=Geheim&stream=0",
        "rtsp://10.0.0.7:554/user=Geheim_password=Geheim_channel=1_stream=0.sdp",
        "rtsp://10.0.0.7/live?api_key=Geheim",
        "rtsp://10.0.0.7/live?token=ab/cdGeheim",
        "rtsp://10.0.0.7/live?token='Geheim'",
        "rtsp://10.0.0.7/live?token=a\nGeheim",
        "rtsp://10.0.0.7/live?token=a bGeheim&channel=1",
        "rtsp://10.0.0.7/live?authBasic=Geheim",
        "rtsp://10.0.0.7/live?usr=Geheim&psw=Geheim",
        "rtsp://10.0.0.7/live?pw=Geheim&channel=1",
        "rtsp://10.0.0.7/live?X-Credential=Geheim",
        "rtsp:10.0.0.7?key=Geheim",
        "https://10.0.0.7/live?streamKey=Geheim",
        "admin:Geheim@10.0.0.7/live",
        "/user=admin&pwd=Geheim",
    ]:
        with subtests.test(address=address):
            assert "Geheim" not in mask(f"{address}: refused")


def test_what_holds_no_secret_stays(subtests):
    for text in [
        "rtsp://10.0.0.7:554/live: lost (timed out), trying again in 0.5 s",
        "--key-mapping model.=: no key begins so",
        "step 12:30 at mail@example.org",
        "rows 3: user=4",
    ]:
        with subtests.test(text=text):
            assert mask(text) == text


@given(
    st.sampled_from(["token", "password", "user_pwd", "ApiKey", "session.id", "X-Amz-Signature", "pw"]),
    st.text(st.characters(exclude_characters="&;#", exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["", "&channel=1", ": timed out"]),
)
def test_a_secret_in_the_query_of_a_stream_is_masked_whatever_it_holds(name, value, rest):
    value = "Geheim" + value.replace(": ", ":") + "Wort"  # with which a message goes on

    text = mask(f"rtsp://10.0.0.7/live?{name}={value}{rest}")

    assert "Geheim" not in text and "Wort" not in text
    assert text.startswith("rtsp://") and ("@" in value or text.endswith(rest))


@given(st.text(max_size=60))
def test_what_is_printable_holds_no_control_character(text):
    assert printable(text).isprintable()
    assert printable(text, keep="\n").replace("\n", "").isprintable()


@given(st.text(st.characters(categories=["L", "N", "Zs", "P"]), max_size=40))
def test_masking_twice_changes_nothing(text):
    assert mask(mask(text)) == mask(text)


def test_messages_and_results_escape_what_a_terminal_would_obey(capsys):
    tell("ecotta", "node \x1b[2J\x9b1m refused\nsecond line")
    show("table \x1b]0;owned\x07")

    captured = capsys.readouterr()
    assert captured.err == "ecotta: node \\x1b[2J\\x9b1m refused\nsecond line\n"
    assert captured.out == "table \\x1b]0;owned\\x07\n"


def test_a_hostile_name_of_a_megabyte_is_no_long_message(capsys):
    tell("ecotta", "rtsp:" * 200_000)

    assert len(capsys.readouterr().err) < 20_000


@pytest.mark.parametrize("realtime", [True, False])
@pytest.mark.parametrize(
    "address", ["rtsp:/admin:Geheim@h", "rtsp://admin:Ge\nheim@h", "ftp://admin:Geheim@h", "admin:Geheim@h"]
)
def test_a_mistyped_address_does_not_show_its_password(address, realtime):
    """For a program that prints the error itself: the message is masked where it is made."""
    pytest.importorskip("av")
    if "\n" in address and not realtime:
        camera = rtsp_camera(address)
        assert "heim" not in camera._name
        return
    with pytest.raises(EcottaError) as caught:
        open_source(address, realtime=realtime)

    assert "heim" not in str(caught.value)


def test_what_libraries_print_stays_out_of_the_json_lines():
    script = """
import os
from ecotta_rt.messages import own_output
with own_output() as file:
    os.write(1, b"banner of a library\\n")
    print('{"frame": 0}', file=file, flush=True)
print("after")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == '{"frame": 0}\nafter\n'
    assert done.stderr == "banner of a library\n"


def test_output_that_is_no_descriptor_is_left_alone(capsys):
    from ecotta_rt.messages import own_output

    before = os.stat(1)
    with own_output() as file:
        print("line", file=file)

    assert capsys.readouterr().out == "line\n"
    assert os.stat(1) == before
