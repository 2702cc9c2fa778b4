import threading

from ecotta_rt.runtime.watch import watching


def test_it_calls_again_and_again_in_a_thread_of_its_own_until_it_is_left():
    calls, thrice = [], threading.Event()

    def call():
        calls.append(True)
        if len(calls) == 3:
            thrice.set()

    with watching(call, 0.001):
        assert thrice.wait(60)

    assert "guard" not in [thread.name for thread in threading.enumerate()]
