"""Whatever stands in a configuration or in the environment, it is read or refused with a sentence."""

import re

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ecotta_rt.daemon.configuration.config import Config
from ecotta_rt.daemon.configuration.config_reading import read, read_config
from ecotta_rt.daemon.configuration.config_shown import as_text, shown
from ecotta_rt.daemon.configuration.config_text import first_text, toml_value
from ecotta_rt.daemon.configuration.overrides import PREFIX
from ecotta_rt.errors import EcottaError

TABLES = ["network", "camera", "state", "http", "signs", "log", "sink", "config_version", "alert", "", "Network", "a.b"]
FIELDS = ["bundle", "name", "source", "port", "host", "token", "kind", "file", "folder", "every_s", "share", "top", "x"]
FIELDS += ["events", "cameras", "queue", "level", "threads", "memory_limit", "device", "answer", "views", "'q\"", "ü"]
ODD = ['""', "0", "-1", "1e400", "nan", "inf", "true", "[]", "{}", "[[]]", "1979-05-27", "07:32:00", "0x" + "f" * 400]
ODD += ['"\\u0000"', '"\\u001b[2J"', '"\\ud7ff"', "'caf\u00e9'", "'''\na\n'''", '"' + "x" * 5000 + '"', "9" * 300]
ODD += ['"${HOME}"', '"${"', '"$${"', '"${A B}"', '"file:"', '"file:/"', '"file:/dev/zero"', '"file:x"']
ODD += ['"rtsp://a:b@c/d"', '"/dev/video0"', '"127.0.0.1"', '"::"', '"a/../b"', '"~"', '"."', '"json-lines"', '"csv"']
ODD += ['"file:\\u0000"', "[1, 'a', {b = [[]]}]", "{a.b.c.d.e.f.g.h.i = 1}", '"mqtt"', '"webhook"']
VARIABLES = [PREFIX, *(PREFIX + name for name in ("HTTP__PORT", "CAMERA__A__SOURCE", "STATE__FOLDER", "HTTP", "X__Y"))]
VARIABLES += [PREFIX + name for name in ("NETWORK__BUNDLE", "NETWORK__THREADS", "\x1b__[2J", "HTTP__NAMES")]
VARIABLES += ["STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "HOME"]
SET = ["", "1", "nan", "[", "[" * 500, "/", "/nowhere", "x" * 5000, "\n[http]", "true", "9" * 5000, "a\x1b[2J"]
SET += ["\udce9"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configurations")
    (folder / "net.ecotta").write_bytes(b"")
    return folder


@st.composite
def mutated(draw, valid):
    """A file to begin with after a few accidents: lines lost, doubled, swapped, values replaced, bytes changed."""
    lines = valid.splitlines()
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        accident = draw(st.sampled_from(["lose", "double", "swap", "value", "field", "text", "head"]))
        if accident == "lose":
            del lines[at]
        elif accident == "double":
            lines.insert(at, lines[at])
        elif accident == "swap":
            lines[at], lines[-1] = lines[-1], lines[at]
        elif accident == "value":
            lines[at] = f"{lines[at].lstrip('# ').partition('=')[0] or 'x'} = {draw(st.sampled_from(ODD))}"
        elif accident == "field":
            lines.insert(at, f"{draw(st.sampled_from(FIELDS))} = {draw(st.sampled_from(ODD))}")
        elif accident == "text":
            lines.insert(at, draw(st.text(max_size=40)))
        else:
            lines.insert(at, draw(st.sampled_from(["[{}]", "[[{}]]"])).format(draw(st.sampled_from(TABLES))))
        lines = lines or [""]
    content = bytearray("\n".join(lines).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 2))):
        content[draw(st.integers(0, len(content) - 1)) if content else 0 : 0] = bytes([draw(st.integers(0, 255))])
    return bytes(content)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["/dev/video0", "${X}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def built(draw):
    """Tables of the right names with any values."""
    lines = ["config_version = 1"]
    for _ in range(draw(st.integers(1, 6))):
        head = draw(st.sampled_from(["[{}]", "[[{}]]", "{}.x"])).format(draw(st.sampled_from(TABLES)))
        lines.append(head if head.startswith("[") else f"{head} = 1")
        for field in draw(st.lists(st.sampled_from(FIELDS), max_size=5, unique=True)):
            lines.append(f"{field} = {toml_value(draw(VALUES))}")
    return "\n".join(lines).encode("utf-8", "surrogatepass")


NESTED = st.builds(
    lambda left, right, depth: (left * depth + right * depth).encode(),
    st.sampled_from(["[", "{a=", "a.", "[[", "'", '"""', "a = [", "\n[a.b.c]", "#"]),
    st.sampled_from(["]", "}", "", "1"]),
    st.integers(1, 20_000),
)

ENVIRONMENTS = st.dictionaries(st.sampled_from(VARIABLES), st.sampled_from(SET), max_size=3)


def read_or_refuse(folder, content, environ):
    """What any configuration comes to."""
    path, refusal = folder / "fuzzed.toml", None
    path.write_bytes(content)
    try:
        assert isinstance(read_config(path, environ), Config)
        assert as_text(shown(read(path, environ), content.decode("utf-8")))
    except EcottaError as error:
        refusal = error
    event("read" if refusal is None else "refused: " + re.sub(r"[^a-z ]", "", str(refusal)[-40:]))
    assert refusal is None or (refusal.exit_code in {74, 78} and str(refusal).strip() and len(str(refusal)) < 20_000)


def check(examples):
    """The same trial with so many examples."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data(), environ=ENVIRONMENTS)
    def trial(folder, data, environ):
        valid = first_text(f"{folder}/net.ecotta", {"a": "/dev/video0", "b": "rtsp://10.0.0.7/live"})
        kinds = st.one_of(mutated(valid), mutated(valid), built(), NESTED, st.binary(max_size=200))
        read_or_refuse(folder, data.draw(kinds), environ)

    return trial


def test_a_configuration_is_read_or_refused_with_a_sentence(folder):
    check(200)(folder)


@pytest.mark.slow
def test_a_thousand_configurations_are_read_or_refused_with_a_sentence(folder):
    check(1000)(folder)
