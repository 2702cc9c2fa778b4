"""The command `ecotta`: finds the subcommand, loads it and nothing else, and turns errors into messages.

A subcommand is a module with `NAME`, `add_arguments(parser)` and `run(args) -> exit code`; one with `SUBCOMMANDS` hands
the rest of the line to the module of the first word, `cli/NAME_WORD.py`. It is imported only when called, so that
`ecotta devices` runs on a board that has no torch. `run_command` is shared with `ecotta-bench`.
"""

import difflib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module

from ecotta_rt._version import __version__
from ecotta_rt.cli.parser import CommandParser
from ecotta_rt.cli.standard_streams import prepare_streams, reader_is_gone, settle_streams
from ecotta_rt.errors import EXIT_INTERRUPTED, BudgetExceeded, EcottaError, UsageError
from ecotta_rt.extras import missing_package
from ecotta_rt.messages import tell

__all__ = ["COMMANDS", "EXIT_BUG", "EXIT_INPUT_OUTPUT", "main", "run_command"]

EXIT_BUG = 1
EXIT_INPUT_OUTPUT = 74

COMMANDS = {
    "demo": "show a network adapting to a stream, both shipped: no data needed, about a minute",
    "student": "make the network that fits: distil a small one from large ones, over the places it will see",
    "prepare": "warm up a network for adaptation: network + checkpoint + data -> warmed-up network",
    "tune": "measure what pays for a bundle on labelled source pictures, corrupted, and write it into the bundle",
    "profile": "show what a training or adaptation step keeps in memory, by part and by tensor",
    "devices": "list the boards and phones we know, and what they give",
    "doctor": "look whether this machine can run us, and what to do where it cannot",
    "inspect": "show what is in a bundle or an adapted state, having checked all of it",
    "plan": "say whether a bundle fits a device, how to run it there, and what its memory is made of",
    "run": "answer and learn from a stream: bundle + pictures, film, camera or replay -> JSON lines",
    "serve": "answer several cameras with one network, for months: a daemon by a configuration file",
    "config": "begin, look over or show the configuration of the daemon, one TOML file",
    "state": "list what cameras have learned, look into it, put an older state back or begin anew",
    "merge": "merge what the boards of a fleet have learned, or whole networks, without data",
    "service": "run the daemon as a systemd service: a unit made from its configuration and the plan",
    "top": "show a running daemon in a terminal: cameras, answers, signs of error, memory, events",
    "completion": "print a script that lets the shell complete our commands with the Tab key",
}
"""Name of each subcommand -> its line in the help. The module is `ecotta_rt.cli.NAME`."""

_EXAMPLES = """\
examples:
  ecotta demo                           see a network adapt, without any data
  ecotta devices                        every device and its memory
  ecotta devices raspberry-pi-zero-2w   one of them, with the sources of its figures
  ecotta COMMAND --help                 options and examples of a command
  source <(ecotta completion bash)      let the Tab key complete all of them; also zsh, fish

exit codes:
  0 done, 1 our bug, 2 usage, 3 does not fit the budget, 4 bad or hostile input file, 69 a missing extra or device,
  74 input/output error, 78 bad configuration, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ecotta` with `argv`, by default the process's arguments; returns the exit code."""
    return run_command("ecotta", _dispatch, argv)


def run_command(program: str, command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a command line, with every way it can end turned into a message and an exit code.

    A user's mistake is one line on stderr. A bug of ours is one line that says so. The environment variable
    ECOTTA_DEBUG set to 1 adds the traceback to either.

    Args:
        program: For messages.
        command: Takes the arguments and returns an exit code. May raise anything.
        argv: The arguments after the program's name; by default those of the process.
    """
    prepare_streams()
    code = _ended(program, command, sys.argv[1:] if argv is None else argv)
    settle_streams(abandoned=code == EXIT_INTERRUPTED)
    return code


def _ended(program: str, command: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    try:
        code = command(argv)
        sys.stdout.flush()  # here, where a closed pipe is still caught
    except SystemExit as error:  # argparse, after its own message
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        return _fail(program, "interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        if reader_is_gone():  # `| head -1`, which is no error
            return EXIT_INPUT_OUTPUT
        return _fail(program, "error: the reader of a pipe that we write to has gone", EXIT_INPUT_OUTPUT)
    except EcottaError as error:
        return _fail(program, f"error: {error}", error.exit_code)
    except OSError as error:
        return _fail(program, f"error: {error}", EXIT_INPUT_OUTPUT)
    except MemoryError as error:
        what = f" ({error})" if str(error) else ""
        return _fail(program, f"error: not enough memory{what}; ask for less at once", BudgetExceeded.exit_code)
    except Exception as error:
        extra = "bench" if program == "ecotta-bench" else None
        missing = missing_package(error, extra) if isinstance(error, ModuleNotFoundError) else None
        if missing is not None:
            return _fail(program, f"error: {missing}", missing.exit_code)
        return _fail(program, f"error: {_bug_report(error)}", EXIT_BUG)
    return code


def _dispatch(argv: Sequence[str]) -> int:
    if argv and not argv[0].startswith("-"):
        return _run_subcommand(argv[0], argv[1:])
    parser = CommandParser(
        "ecotta",
        usage="ecotta COMMAND [options]",
        description="Test-time adaptation of vision networks inside the memory of small devices.",
        epilog=f"commands:\n{_command_list()}\n\n{_EXAMPLES}",
    )
    parser.add_argument("-V", "--version", action="version", version=f"ecotta {__version__}")
    parser.parse_args(argv)
    raise UsageError(f"no command given; one of {', '.join(COMMANDS)}, or --help")


def _run_subcommand(name: str, argv: Sequence[str]) -> int:
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UsageError(f"unknown command {name!r}{hint} Known: {', '.join(COMMANDS)}")
    module = import_module(f"ecotta_rt.cli.{name}")
    if argv and argv[0] in getattr(module, "SUBCOMMANDS", ()):
        name, argv = f"{name} {argv[0]}", argv[1:]
        module = import_module(f"ecotta_rt.cli.{name.replace(' ', '_')}")
    parser = CommandParser(f"ecotta {name}", description=module.__doc__)
    module.add_arguments(parser)
    code: int = module.run(parser.parse_args(argv))
    return code


def _command_list() -> str:
    return "\n".join(f"  {name:<12}{line}" for name, line in COMMANDS.items())


def _bug_report(error: Exception) -> str:
    kind = f"{type(error).__name__}: {error}".splitlines()[0]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"{kind}{place}. This is a bug in ecotta_rt; set ECOTTA_DEBUG=1 for the traceback, and please report it"


def _fail(program: str, message: str, code: int) -> int:
    if os.environ.get("ECOTTA_DEBUG") == "1":
        tell("", traceback.format_exc().rstrip())
    tell(program, message)
    return code
