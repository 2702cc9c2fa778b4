"""Safetensors files that are the same for the same content."""

import json

__all__ = ["with_sorted_metadata"]


def with_sorted_metadata(content: bytes) -> bytes:
    """The same file, with the metadata not in the order of the library's hash table, which differs from call to call.

    Args:
        content: As the library wrote it, with metadata.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[start:]
