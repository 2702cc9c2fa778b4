"""Print a script that lets the shell complete commands, options and their values with the Tab key.

The script is made from the parsers, and is as old as the version that printed it: print it again after an update.

examples:
  ecotta completion bash >> ~/.bash_completion
  ecotta completion zsh > ~/.ecotta.zsh               and in ~/.zshrc: source ~/.ecotta.zsh
  ecotta completion fish > ~/.config/fish/completions/ecotta.fish
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from ecotta_rt.machine.device import device_ids

__all__ = ["NAME", "add_arguments", "run"]

NAME = "completion"


@dataclass(frozen=True)
class _Option:
    """One option: its names, what it is for, whether it takes a value, and which where they are known."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    choices: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=tuple(_SCRIPTS), help="which shell")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from ecotta_rt.cli.main import COMMANDS

    print(_SCRIPTS[args.shell](COMMANDS, {name: _options(name) for name in COMMANDS}))
    return 0


def _options(name: str) -> tuple[_Option, ...]:
    """Of a command, and behind them those of its own commands, each once."""
    parser = argparse.ArgumentParser(name)
    try:
        module = import_module(f"ecotta_rt.cli.{name}")
        module.add_arguments(parser)
    except ModuleNotFoundError:  # a command of an extra that is not installed
        return ()
    own = tuple(_option(action) for action in parser._actions)
    inner = [option for sub in getattr(module, "SUBCOMMANDS", ()) for option in _options(f"{name}_{sub}")]
    known = {option.names for option in own}
    return own + tuple({option.names: option for option in inner if option.names not in known}.values())


def _option(action: argparse.Action) -> _Option:
    choices = tuple(map(str, action.choices or ()))
    if action.dest == "device":
        choices = device_ids()
    text = (action.help or "").replace("%%", "%")
    return _Option(tuple(action.option_strings), text, action.nargs != 0, choices)


def _bash(commands: Mapping[str, str], options: Mapping[str, Sequence[_Option]]) -> str:
    """Options behind a dash, values after an option or in the place of an argument, else files."""
    values, listed = [], []
    for name in commands:
        found = options[name]
        listed.append(f'        {name}) words="{" ".join(n for option in found for n in option.names)}" ;;')
        for option in found:
            after = "|".join(f'"{name} {n}"' for n in option.names) or f'"{name} {name}"'
            if option.choices:
                values.append(f'        {after}) words="{" ".join(option.choices)}" ;;')
    return "\n".join(
        [
            "_ecotta() {",
            '    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" words=""',
            '    if [ "$COMP_CWORD" -eq 1 ]; then',
            f'        COMPREPLY=($(compgen -W "{" ".join(commands)} --help --version" -- "$cur")); return',
            "    fi",
            '    case "$cur" in -*) case "${COMP_WORDS[1]}" in',
            *listed,
            "    esac ;;",
            '    *) case "${COMP_WORDS[1]} $prev" in',
            *values,
            "    esac ;; esac",
            '    if [ -n "$words" ]; then COMPREPLY=($(compgen -W "$words" -- "$cur"))',
            '    else COMPREPLY=($(compgen -f -- "$cur")); fi',
            "}",
            "complete -o filenames -F _ecotta ecotta",
        ]
    )


def _zsh(commands: Mapping[str, str], options: Mapping[str, Sequence[_Option]]) -> str:
    return f"autoload -U +X bashcompinit && bashcompinit\n{_bash(commands, options)}"


def _fish(commands: Mapping[str, str], options: Mapping[str, Sequence[_Option]]) -> str:
    first = "complete -c ecotta -n __fish_use_subcommand -f"
    lines = [f"{first} -a {name} -d {_quoted(text)}" for name, text in commands.items()]
    for name in commands:
        after = f"complete -c ecotta -n '__fish_seen_subcommand_from {name}'"
        shown = [option for option in options[name] if option.names or option.choices]
        lines += [" ".join([after, *_flags(option)]) for option in shown]
    return "\n".join(lines)


def _flags(option: _Option) -> list[str]:
    names = [f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names]
    value = ["-r"] if option.names and option.takes_value else []
    choices = ["-f", f"-a {_quoted(' '.join(option.choices))}"] if option.choices else []
    return [*names, *value, *choices, f"-d {_quoted(option.help)}"]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
