"""Waiting with an end."""

import time


def until(condition, seconds, what):
    """Asks `condition` until it returns something true, and returns that. `what` is a text, or makes
    one when it is needed."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {seconds} s: {text}")
        time.sleep(0.02)
