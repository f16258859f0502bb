"""Work in a child process that ends: what it loads and builds on the way does not stay in this one."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from kairos_core.errors import KairosError

T = TypeVar("T")


class Apart(Generic[T]):
    """Work that a child process began when this was made; `result` waits for it.

    The child is a fork, so make it before there are threads or an event loop. What the work returns or raises comes
    back pickled, over a pipe that no other process has.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # else the child would write again what waits in the buffers
        reading, writing = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(reading)
            _answer(work, writing)
        os.close(writing)
        self._reading = reading

    def result(self) -> T:
        """Return what the work returned, or raise what it raised. Call it once."""
        with open(self._reading, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(self._child, 0)
        if not answer:
            code = os.waitstatus_to_exitcode(status)
            how = f"signal {-code} ended it" if code < 0 else f"it ended with {code}"
            raise KairosError(f"a child process gave no answer: {how}. See the kernel log (dmesg), and try again.")
        # Written by our own fork: whoever could change it could change this process.
        is_error, value = pickle.loads(answer)  # noqa: S301
        if is_error:
            raise value
        return cast("T", value)


def _answer(work: Callable[[], Any], writing: int) -> None:
    """Do the work, write the answer and end: nothing of the parent's, such as `finally` or `atexit`, is to run."""
    code = 1
    try:
        answer = _outcome(work)
        with open(writing, "wb") as pipe:
            pipe.write(answer)
        code = 0
    except KeyboardInterrupt:
        pass  # the parent was interrupted too, and says so
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _outcome(work: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps((False, work()))
    except Exception as error:
        if not isinstance(error, KairosError):
            error.add_note("".join(traceback.format_exception(error)))  # where in the child it happened
        return pickle.dumps((True, error))
