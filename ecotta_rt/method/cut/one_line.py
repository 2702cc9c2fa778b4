"""Another program's error in one line: torch's messages go on for pages, with its own frames in them."""

__all__ = ["one_line"]

_LONGEST = 240


def one_line(error: BaseException, containing: str = "") -> str:
    """The first line of an error's message (that contains a word), cut to a readable length.

    Args:
        error: Whose message.
        containing: Prefer the first line with this in it, in small letters.
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    line = next((line for line in lines if containing in line.lower()), lines[0] if lines else type(error).__name__)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
