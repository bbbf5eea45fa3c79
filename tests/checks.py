"""Counts and tells the results of tests that run programs."""

import sys

passed = failed = 0


def check(name, ok, detail=""):
    """Counts one result and tells it."""
    global passed, failed
    if ok:
        passed += 1
        print(f"ok    {name}", flush=True)
    else:
        failed += 1
        print(f"FAIL  {name}", flush=True)
        for line in str(detail).strip().splitlines()[:40]:
            print(f"      {line[:500]}", flush=True)
    return ok


def finish():
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0)
