"""Repeats of a call that has failed for a passing cause, with growing pauses between them."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

_GROWTH = 2.0
_LONGEST = 5.0  # seconds of a pause

T = TypeVar("T")


def retried(
    call: Callable[[int], T], is_passing: Callable[[Exception, int], bool], *, pause: float, jitter: float
) -> T:
    """Return the result of `call`, which is repeated as long as it fails for a passing cause.

    Args:
        call: It gets the number of the attempt, from 1 on.
        is_passing: Returns whether to repeat the call, from its error and the number of the attempt.
        pause: The seconds of the first pause. Each one takes twice as long as the one before, at most 5 seconds.
        jitter: Up to how many seconds, at random, a pause takes in addition, so that many clients do not call at once.
    """
    number = 1
    while True:
        try:
            return call(number)
        except Exception as error:
            if not is_passing(error, number):
                raise
        time.sleep(min(_LONGEST, pause + random.uniform(0, jitter)))  # noqa: S311 - no secret
        pause = min(_LONGEST, pause * _GROWTH)
        number += 1
