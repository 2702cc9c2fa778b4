"""States as Flower's records carry them: each the content of its file, in an array of bytes.

request    config: round
reply      states: an array a board    board: who asks for a merged one, and why others are not given
merged     states: an array a group    board: whose states, and which group each of them is of
taken      board: who has written it, and why others have not    counts
"""

from collections.abc import Mapping, Sequence

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

__all__ = ["BOARD", "CONFIG", "COUNTS", "STATES", "contents_in", "record_of", "texts_in"]

BOARD = "board"
CONFIG = "config"
COUNTS = "counts"
STATES = "states"

_KIND = "ecotta.state"
_LONGEST_TEXT = 1000
_MOST_TEXTS = 10_000


def record_of(contents: Mapping[str, bytes]) -> ArrayRecord:
    """States by name, as an array record: Flower sends it in pieces, however large it is."""
    return ArrayRecord({name: Array("uint8", (len(data),), _KIND, data) for name, data in contents.items()})


def contents_in(content: RecordDict) -> dict[str, bytes]:
    """What `record_of` was given, from anybody's message; what is of another kind is not in it."""
    record = content.get(STATES)
    if not isinstance(record, ArrayRecord):
        return {}
    return {name: bytes(array.data) for name, array in record.items() if array.stype == _KIND}


def texts_in(content: RecordDict, key: str) -> Sequence[str]:
    """A list of texts of the board's own record, from anybody's message."""
    record = content.get(BOARD)
    value = record.get(key) if isinstance(record, ConfigRecord) else None
    texts = value[:_MOST_TEXTS] if isinstance(value, list) else []
    return [text[:_LONGEST_TEXT] for text in texts if isinstance(text, str)]
