"""Ctrl-C raises KeyboardInterrupt also where MindSpore has put its own handler."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from autocomp.primitives.tracing.platform import forward
from autocomp.process.interrupts import interruptible
from tests.networks import NETWORKS, images, randomised


@pytest.fixture(autouse=True)
def terminated() -> Iterator[list[int]]:
    """Signals that would have ended the process."""
    found: list[int] = []

    def own(number: int, frame: FrameType | None) -> None:
        found.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, own)
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_after_mindspore_ran_a_compiled_network(terminated: list[int]) -> None:
    net = randomised(NETWORKS["residual"]())
    forward(net, (images(2),))
    interrupt()
    assert terminated == [signal.SIGTERM], "MindSpore leaves Python's handler in place: this module is not needed"
    forward(net, (images(2),))
    with pytest.raises(KeyboardInterrupt), interruptible():
        interrupt()
    forward(net, (images(2),))
    with interruptible():
        pass
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert terminated == [signal.SIGTERM]


def test_handlers_of_others_stay(terminated: list[int]) -> None:
    own = signal.getsignal(signal.SIGTERM)
    with interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert terminated == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) is own


def test_in_another_thread_it_does_nothing() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    @interruptible()
    def evaluate_subset() -> None:
        seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=evaluate_subset)
    thread.start()
    thread.join()
    assert seen == [before]
