"""Send a state with tries: networks of small boards come and go."""

import random
from collections.abc import Callable

from ecotta_rt.errors import UsageError
from ecotta_rt.fleet.drop.address import Address, Unsent
from ecotta_rt.fleet.drop.http import put
from ecotta_rt.fleet.drop.mqtt import publish
from ecotta_rt.machine.clock import Clock

__all__ = ["MOST_TRIES", "send"]

MOST_TRIES = 20

_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)  # before the next try, as outputs have it; the last one is repeated


def send(
    address: Address,
    content: bytes,
    tries: int,
    *,
    clock: Clock,
    say: Callable[[str], None],
    draw: Callable[[], float] = random.random,
) -> int:
    """Send it, and again after a while where the other side is out.

    Args:
        address: Where to.
        content: Of the state's file.
        tries: At most, 1 to 20.
        clock: Waits.
        say: Hears why another try is made.
        draw: Gives numbers in [0, 1). A wait is that share of what it could be, so that many boards that lost one
            gateway do not come back in step ("full jitter": Brooker, Exponential Backoff And Jitter, 2015).

    Returns:
        How many tries it took.

    Raises:
        UsageError: `tries` is out of range.
        Unsent: It cannot be sent: exit code 74.
    """
    if not 1 <= tries <= MOST_TRIES:
        raise UsageError(f"{tries} tries: give 1 to {MOST_TRIES}")
    once = put if address.is_http else publish
    for number in range(1, tries + 1):
        try:
            once(address, content)
        except Unsent as error:
            if not error.again or number == tries:
                after = f" (tried {number} times)" if number > 1 else ""
                raise Unsent(f"the state was not sent: {error}{after}", again=error.again) from error
            wait_s = _WAITS_S[min(number, len(_WAITS_S)) - 1] * draw()
            say(f"{error}; once more in {wait_s:.1f} s")
            clock.sleep_s(wait_s)
        else:
            break
    return number
