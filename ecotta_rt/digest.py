"""SHA-256 without OpenSSL.

`hashlib` loads OpenSSL's library even where Python has its own implementation: 3.6 MiB of the memory of a process that
has 90. The results are the same.
"""

try:
    from _sha2 import sha256  # type: ignore[import-not-found,unused-ignore]  # Python 3.12 and newer
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]  # Python 3.11
    except ImportError:  # another implementation of Python
        from hashlib import sha256

__all__ = ["sha256"]
