"""What the C library does with freed memory, chosen by name and the same for every measured process.

Left alone, glibc raises its own threshold until tensors of several MiB live in one heap, where the freed ones leave
holes that the next do not fill: a step of WRN-40-2 at batch 64 whose tensors peak at 184 MiB made its process grow by
446 MiB in one run and by 540 in another. `returning` gives every freed tensor back at once: there the growth was 217,
it follows the tensors to some 30 MiB, and it repeats. A step then takes 1.2 to 1.4 times the processor time, since the
kernel clears the pages anew. On a device one would set the same variables.

Source: mallopt(3), M_MMAP_THRESHOLD; the GNU C library's manual, "Memory Allocation Tunables".
"""

import ctypes
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["ALLOCATORS", "describe_allocator", "keep_freed_memory"]

_MIB = 1024 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

ALLOCATORS: Mapping[str, Mapping[str, str]] = {
    "returning": {
        "MALLOC_MMAP_THRESHOLD_": str(_MIB),
        # Asks for large pages where the kernel has some to give: a tenth to a fifth less time, the same memory.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    },
    "libc": {},
}
"""Name -> environment variables. They must be there when the process starts."""


def describe_allocator(environment: Mapping[str, str]) -> str:
    """The variables of `environment` that the C library's allocator listens to, in one line.

    >>> describe_allocator({"HOME": "/root", "MALLOC_ARENA_MAX": "1"})
    'MALLOC_ARENA_MAX=1'
    """
    heard = {
        name: value for name, value in environment.items() if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"
    }
    return " ".join(f"{name}={value}" for name, value in sorted(heard.items())) or "libc defaults"


def keep_freed_memory() -> None:
    """From now on let this process keep what it frees, which is faster; where there is no glibc, nothing happens."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)  # the largest it takes
        libc.mallopt(_M_TRIM_THRESHOLD, 1024 * _MIB)
