"""File names as text: on Linux a name is bytes, and need not be UTF-8."""

__all__ = ["readable_name"]


def readable_name(name: str) -> str:
    r"""A name as text that any file and any program can take, whatever the locale.

    Args:
        name: As Python gives it: bytes that the locale's encoding does not know are lone surrogates in it.

    >>> readable_name("caf\udce9.png")
    'caf\\xe9.png'
    """
    try:
        content = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        content = name.encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")
