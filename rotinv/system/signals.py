"""Ctrl-C and SIGTERM in programs; a signal that the caller's shell ignores stays ignored.

A shell script starts its background jobs with SIGINT ignored, so that Ctrl-C at the terminal does not stop
them.
"""

import contextlib
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import cast


def stop_at_signals() -> list[int]:
    """Have Ctrl-C and SIGTERM raise KeyboardInterrupt, so that half-written files are removed.

    Returns a list, to which the numbers of received signals are added. If a signal comes while C code is
    calling Python, HDF5 would crash at the exception, and other libraries would swallow it: then the signal
    is sent again a moment later.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if not _would_be_lost(frame, swallowed):
            raise KeyboardInterrupt
        _send_later(number)

    def swallowed(what: "sys.UnraisableHookArgs") -> None:
        if received and issubclass(what.exc_type, KeyboardInterrupt):
            _send_later(received[-1])
        else:
            sys.__unraisablehook__(what)

    sys.unraisablehook = swallowed
    for number in _heeded():
        signal.signal(number, stop)
    return received


def ignore() -> None:
    """Ignore Ctrl-C and SIGTERM from now on, so that the last words of a program are said whole."""
    for number in _heeded():
        signal.signal(number, signal.SIG_IGN)


def _send_later(number: int) -> None:
    """Send the signal again, to the main thread: a read or a sleep that it waits in is interrupted."""
    again = threading.Timer(0.01, _send, (number,))
    again.daemon = True
    again.start()


def _send(number: int) -> None:
    if sys.platform == "win32":  # which knows no signals of a thread
        signal.raise_signal(number)
    else:
        signal.pthread_kill(cast(int, threading.main_thread().ident), number)


def _would_be_lost(frame: FrameType | None, hook: Callable) -> bool:
    """Whether an exception raised in the frame would not reach the program.

    HDF5 writes through the methods of a raw file. Python calls `hook` for exceptions that it cannot raise.
    """
    while frame is not None:
        if frame.f_code is hook.__code__ or isinstance(frame.f_locals.get("self"), io.RawIOBase):
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a request to stop soon. Gives a function that tells whether there was
    one."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in _heeded()}
    for number in before:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded() -> list[signal.Signals]:
    """Those of SIGINT and SIGTERM that the process does not ignore."""
    return [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]
