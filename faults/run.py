"""Runs the fault tests: run.py [NAME…], each name a part of a test's full name.

scripts/test-faults sets the environment and calls this.
"""

import pathlib
import resource
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


class Printed(unittest.TestResult):
    """A line for each test as it ends."""

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()
        self.before = len(self.failures), len(self.errors)
        self.skipped_before = len(self.skipped)

    def stopTest(self, test):
        super().stopTest(test)
        broken = self.failures[self.before[0] :] + self.errors[self.before[1] :]
        skipped = self.skipped[self.skipped_before :]
        word = "FAIL " if broken else "SKIP " if skipped else "ok   "
        print(f"{word} {time.monotonic() - self.began:5.1f} s  {sentence(test)}")
        for _, text in broken:
            print("\n".join("      " + line for line in text.splitlines()))
        for _, reason in skipped:
            print(f"      NOT CHECKED: {reason}")
        sys.stdout.flush()


def sentence(test):
    """A test's name as a sentence, with its module."""
    module, _, name = test.id().rpartition(".")
    return f"{module.split('.')[0].removeprefix('test_')}: {name.removeprefix('test_').replace('_', ' ')}"


def test_of(item):
    """The test of a part of one."""
    return getattr(item, "test_case", item)


def cases(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from cases(item)
        else:
            yield item


def main(names):
    # An end that was asked for from outside ends the servers too, as ^C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # Some tests hold thousands of connections.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else soft, hard))

    found = unittest.defaultTestLoader.discover(str(pathlib.Path(__file__).resolve().parent))
    chosen = [test for test in cases(found) if not names or any(name in test.id() for name in names)]
    result = Printed()
    began = time.monotonic()
    try:
        unittest.TestSuite(chosen).run(result)
    except KeyboardInterrupt:
        return 130
    # One test can fail in more than one way.
    broken = {test_of(item).id() for item, _ in result.failures + result.errors}
    failed, skipped = len(broken), len(result.skipped)
    passed = result.testsRun - failed - skipped
    print(f"{time.monotonic() - began:.0f} s")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
