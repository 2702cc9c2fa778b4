from types import SimpleNamespace

import pytest

from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.run import least_memory
from ecotta_rt.run.least_memory import require_room

MIB = 2**20


@pytest.mark.parametrize("limit_bytes", [None, 60 * MIB, 50 * MIB])
def test_no_limit_and_one_that_the_process_is_below_pass(monkeypatch, limit_bytes):
    monkeypatch.setattr(least_memory, "held_memory", lambda: SimpleNamespace(pss_bytes=50 * MIB))

    require_room(limit_bytes)


def test_a_limit_below_what_the_process_holds_is_refused_with_both(monkeypatch):
    monkeypatch.setattr(least_memory, "held_memory", lambda: SimpleNamespace(pss_bytes=50 * MIB))

    with pytest.raises(
        BudgetExceeded, match="a limit of 20 MiB is below the 50 MiB that this process holds"
    ) as refusal:
        require_room(20 * MIB)

    assert (refusal.value.need_bytes, refusal.value.limit_bytes) == (50 * MIB, 20 * MIB)
