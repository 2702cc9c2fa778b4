"""A lint of Dockerfile.arm64: what it promises stands in it. No Docker is needed."""

import json
import re
import string
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

CHECKOUT = Path(__file__).parent.parent
RECIPE = "scripts/device-install.sh"


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile: its keyword in capitals, and the rest, continued lines joined by a space."""

    keyword: str
    rest: str


def parse(text):
    """The instructions of a Dockerfile.

    Comment lines are left out, also between continued lines, and so are empty lines there, as Docker's own parser does.
    Source: the Dockerfile reference, "Format" and "Escape character".
    """
    instructions, pending = [], ""
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        whole = f"{pending} {stripped}".strip()
        if whole.endswith("\\"):
            pending = whole[:-1].rstrip()
            continue
        instructions.append(split(whole))
        pending = ""
    if pending:
        raise ValueError(f"the last line goes on: {pending!r}")
    return instructions


def split(line):
    keyword, _, rest = line.partition(" ")
    if not re.fullmatch(r"[A-Za-z]+", keyword):
        raise ValueError(f"not an instruction: {line!r}")
    return Instruction(keyword.upper(), rest.strip())


@pytest.fixture(scope="module")
def instructions():
    return parse((CHECKOUT / "Dockerfile.arm64").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def last_stage(instructions):
    """What ends up in the image."""
    start = max(place for place, found in enumerate(instructions) if found.keyword == "FROM")
    return instructions[start:]


def all_of(keyword, instructions):
    return [found.rest for found in instructions if found.keyword == keyword]


def only(keyword, instructions):
    (rest,) = all_of(keyword, instructions)
    return rest


def test_every_base_is_one_exact_slim_python(instructions):
    bases = {rest.split()[0] for rest in all_of("FROM", instructions)}

    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm(@sha256:[0-9a-f]{64})?", bases.pop())


def test_the_python_is_one_that_we_run_on(instructions):
    """The wheels that arm64-smoke tries are for this Python; another here would ship what was not tried."""
    smoke = (CHECKOUT / "scripts" / "arm64-smoke").read_text(encoding="utf-8")
    (suite,) = re.findall(r"^suite=(\w+)", smoke, re.MULTILINE)
    (release,) = re.findall(r"^release=([\d.]+)", smoke, re.MULTILINE)

    assert all(rest.startswith(f"python:{release}.") and f"-{suite}" in rest for rest in all_of("FROM", instructions))


def test_it_installs_by_the_recipe_alone(instructions):
    runs = " ; ".join(all_of("RUN", instructions))

    assert any(RECIPE in rest.split() for rest in all_of("COPY", instructions))
    assert "sh device-install.sh /opt/ecotta" in runs
    assert "pip" not in runs


def test_the_smoke_test_installs_by_the_same_recipe_to_the_same_place():
    smoke = (CHECKOUT / "scripts" / "arm64-smoke").read_text(encoding="utf-8")

    assert "device-install.sh /opt/ecotta" in smoke
    # Apart from it, pip only fetches.
    assert set(re.findall(r"-m pip (\w+)", smoke)) == {"download"}


def test_the_recipe_pins_versions_and_takes_no_sources():
    recipe = (CHECKOUT / RECIPE).read_text(encoding="utf-8")

    assert '--constraint "$constraints"' in recipe
    assert "--only-binary=:all:" in recipe


def test_what_has_no_place_in_it(instructions, subtests):
    for word in ["torch", "[prepare]", "[bench]", "[all]", "latest", "sudo"]:
        with subtests.test(word=word):
            assert all(word not in found.rest for found in instructions)


def test_nothing_is_fetched_and_run(instructions):
    text = " ".join(found.rest for found in instructions)

    assert not re.search(r"\b(curl|wget)\b", text)
    assert not all_of("ADD", instructions)
    assert all(" http" not in rest for rest in all_of("COPY", instructions))


def test_package_lists_do_not_stay(instructions):
    for run in all_of("RUN", instructions):
        assert "apt-get update" not in run or "rm -rf /var/lib/apt/lists/*" in run


def test_it_runs_as_a_user_with_a_fixed_number(last_stage):
    user = only("USER", last_stage)

    assert re.fullmatch(r"[1-9]\d+", user)
    assert f"--uid {user} " in " ".join(all_of("RUN", last_stage))
    kinds = [found.keyword for found in last_stage]
    assert kinds.index("USER") < kinds.index("ENTRYPOINT")
    assert "RUN" not in kinds[kinds.index("USER") :]


def test_the_user_may_open_cameras(last_stage):
    assert "--groups video" in " ".join(all_of("RUN", last_stage))


def test_only_the_state_is_written(last_stage):
    """A read-only root: bytecode is made by the recipe, and the folder of the state is a volume that the user owns."""
    volume = only("VOLUME", last_stage)

    assert "PYTHONDONTWRITEBYTECODE=1" in " ".join(all_of("ENV", last_stage))
    assert "compileall" in (CHECKOUT / RECIPE).read_text(encoding="utf-8")
    assert only("WORKDIR", last_stage) == volume
    assert any("--owner=ecotta" in run and volume in run for run in all_of("RUN", last_stage))


def test_onnxruntime_reports_to_nobody(last_stage):
    """Its builds for Linux do by default, and write to the home folder: Privacy.md in its wheel."""
    assert "ORT_DISABLE_TELEMETRY=1" in " ".join(all_of("ENV", last_stage)).split()


def test_health_is_asked_of_the_doctor_without_starting_onnxruntime(last_stage):
    options, _, command = only("HEALTHCHECK", last_stage).partition(" CMD ")
    words = json.loads(command)

    assert words[:3] == ["ecotta", "doctor", "--quick"]
    assert words[3:] == ["--state", only("VOLUME", last_stage)]
    assert "--timeout=" in options and "--start-period=" in options


def test_it_starts_our_command_and_stops_it_gently(last_stage):
    assert json.loads(only("ENTRYPOINT", last_stage)) == ["ecotta"]
    assert only("STOPSIGNAL", last_stage) == "SIGTERM"


def test_it_says_what_it_is(last_stage):
    labels = only("LABEL", last_stage)

    assert all(f"org.opencontainers.image.{key}=" in labels for key in ("title", "description", "licenses"))


def test_no_build_tools_reach_the_image(instructions, last_stage):
    """Two stages, and the second takes one folder of the first."""
    assert len(all_of("FROM", instructions)) == 2
    assert all_of("COPY", last_stage) == ["--from=install /opt/ecotta /opt/ecotta"]


def test_the_build_is_given_no_more_than_it_copies(instructions):
    context = (CHECKOUT / "Dockerfile.arm64.dockerignore").read_text(encoding="utf-8").splitlines()
    given = {line.removeprefix("!") for line in context if line.startswith("!")}
    (copied,) = [rest.split()[:-1] for rest in all_of("COPY", instructions) if "--from" not in rest]

    assert "*" in context
    assert given == set(copied)


# --- the parser, without which the lint above would show nothing ---------------------------------------------------

WORDS = st.text(string.ascii_letters + string.digits + '/:=.,"[]{}$&|-', min_size=1, max_size=8)
KEYWORDS = st.sampled_from(["FROM", "RUN", "COPY", "ENV", "USER", "VOLUME", "CMD", "run", "Copy"])


@given(
    lines=st.lists(st.tuples(KEYWORDS, st.lists(WORDS, min_size=1, max_size=6)), max_size=8),
    breaks=st.lists(st.sampled_from([" ", " \\\n", " \\\n# a comment\n", " \\\n\n    ", "  \\  \n"]), min_size=1),
    between=st.lists(st.sampled_from(["\n", "\n\n", "\n# RUN not me\n", "\n   # nor me \\\n"]), min_size=1),
)
def test_whatever_the_layout_the_instructions_are_the_same(lines, breaks, between):
    text = ""
    for number, (keyword, words) in enumerate(lines):
        text += f"{keyword} {words[0]}"
        for place, word in enumerate(words[1:]):
            text += breaks[(number + place) % len(breaks)] + word
        text += between[number % len(between)]

    assert parse(text) == [Instruction(keyword.upper(), " ".join(words)) for keyword, words in lines]


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_any_text_is_read_or_refused(text):
    try:
        found = parse(text)
    except ValueError:
        return
    assert all(instruction.keyword.isupper() for instruction in found)


def test_a_broken_file_is_refused(subtests):
    for text in ["RUN a \\\n", "&& b", "FROM python \\"]:
        with subtests.test(text=text), pytest.raises(ValueError, match="goes on|not an instruction"):
            parse(text)
