"""The argument parser of every command."""

import argparse
from typing import NoReturn

from ecotta_rt.errors import UsageError
from ecotta_rt.messages import draw, tell

__all__ = ["CommandParser"]


class CommandParser(argparse.ArgumentParser):
    """Takes no abbreviated options, keeps the line breaks of its texts, and complains where all messages go.

    Args:
        program: Its name, for messages.
        description: Above the options in the help.
        epilog: Below them.
        usage: The first line of the help; made from the options where None.
    """

    def __init__(
        self, program: str, *, description: str | None, epilog: str | None = None, usage: str | None = None
    ) -> None:
        super().__init__(
            program,
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Say how it is used and what was wrong, and end with the exit code of a usage error."""
        draw(self.format_usage())
        tell(self.prog, f"error: {message}")
        raise SystemExit(UsageError.exit_code)
