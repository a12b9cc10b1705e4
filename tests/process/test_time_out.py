"""A timer of the main thread ends what takes too long."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from autocomp.process.time_out import time_out


class TooLate(Exception):
    pass


def test_it_ends_what_takes_too_long_and_leaves_no_timer() -> None:
    with pytest.raises(TooLate), time_out(0.05, TooLate):
        time.sleep(60)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0) and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_it_lets_through_what_is_in_time() -> None:
    with time_out(60, TooLate):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_in_another_thread_it_does_nothing() -> None:
    ended: list[int] = []

    def body() -> None:
        with time_out(0.01, TooLate):
            time.sleep(0.1)
        ended.append(1)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert ended == [1]


def test_a_timer_of_the_user_is_left_alone() -> None:
    def mine(*_: object) -> None:
        pass

    signal.signal(signal.SIGALRM, mine)
    try:
        with time_out(60, TooLate):
            assert signal.getsignal(signal.SIGALRM) is mine
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
