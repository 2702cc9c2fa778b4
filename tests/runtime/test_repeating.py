import threading

from ecotta_rt.runtime.repeating import repeating


def test_it_calls_again_and_again_in_a_thread_of_its_own_until_it_is_left():
    calls, thrice = [], threading.Event()

    def call():
        calls.append(True)
        if len(calls) == 3:
            thrice.set()

    with repeating(call, 0.001):
        assert thrice.wait(60)

    assert "guard" not in [thread.name for thread in threading.enumerate()]
