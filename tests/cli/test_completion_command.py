import subprocess

import pytest

from ecotta_rt.cli.main import COMMANDS, main
from ecotta_rt.machine.device import device_ids


@pytest.fixture
def script(capsys):
    def print_for(shell):
        assert main(["completion", shell]) == 0
        return capsys.readouterr().out

    return print_for


@pytest.fixture
def complete(script, tmp_path):
    """What bash offers for the last of some words."""
    path = tmp_path / "ecotta.bash"
    path.write_text(script("bash"))

    def offers(*words):
        typed = " ".join(f"'{word}'" for word in words)
        code = f"set -eu; source {path}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _ecotta; "
        code += 'printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
        return done.stdout.split()

    return offers


def test_the_first_word_is_a_command(complete):
    assert complete("ecotta", "") == [*COMMANDS, "--help", "--version"]
    assert complete("ecotta", "ru") == ["run"]


def test_a_dash_asks_for_options_and_an_option_for_its_values(complete):
    assert complete("ecotta", "run", "--ma") == ["--max-temperature"]
    assert complete("ecotta", "run", "--guard", "") == ["on", "off"]
    assert complete("ecotta", "plan", "--device", "raspberry-pi-5") == [
        name for name in device_ids() if name.startswith("raspberry-pi-5")
    ]


def test_an_argument_with_known_values_offers_them_and_others_files(complete):
    assert complete("ecotta", "completion", "") == ["bash", "zsh", "fish"]
    assert complete("ecotta", "devices", "jets") == ["jetson-nano"]
    assert complete("ecotta", "run", "eco") == ["ecotta.bash"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_knows_every_command_and_an_option_of_each(script, shell):
    text = script(shell)

    assert all(name in text for name in COMMANDS)
    assert "save-every" in text
    assert "complete" in text


def test_every_line_for_fish_is_one_command_with_its_quotes_closed(script):
    for line in script("fish").splitlines():
        assert line.startswith("complete -c ecotta -n ")
        assert line.replace("\\'", "").count("'") % 2 == 0


def test_zsh_takes_the_script_of_bash(script):
    assert script("zsh").endswith(script("bash"))
