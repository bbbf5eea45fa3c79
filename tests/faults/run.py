"""Runs the fault tests: run.py [NAME…], each name a part of a test's full name.

scripts/test-faults sets the environment and calls this. Every file is a process of its own, and some of
them run at the same time: most of what they do is wait.
"""

import concurrent.futures
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
# Where the tests are: others use the same kit.
TESTS = os.environ.get("FAULTS_TESTS", str(HERE))

AT_A_TIME = 3
# Those that take longest come first.
FIRST = ["discovery", "durability", "slow_clients", "failover", "outbox", "database_outage"]


class Printed(unittest.TestResult):
    """Prints a line for each test as it ends."""

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()
        self.before = len(self.failures), len(self.errors), len(self.skipped)

    def stopTest(self, test):
        super().stopTest(test)
        failures, errors, skipped = self.before
        broken = self.failures[failures:] + self.errors[errors:]
        skipped = self.skipped[skipped:]
        word = "FAIL " if broken else "SKIP " if skipped else "ok   "
        print(f"{word} {time.monotonic() - self.began:5.1f} s  {sentence(test)}")
        for _, text in broken:
            print("\n".join("      " + line for line in text.splitlines()))
        for _, reason in skipped:
            print(f"      NOT CHECKED: {reason}")
        sys.stdout.flush()

    def counts(self):
        """How many have passed, failed, and were skipped. One test can fail in more than one way."""
        broken = {getattr(item, "test_case", item).id() for item, _ in self.failures + self.errors}
        failed, skipped = len(broken), len(self.skipped)
        return self.testsRun - failed - skipped, failed, skipped


def sentence(test):
    """A test's name as a sentence, after its file."""
    return f"{module(test)}: {test.id().rpartition('.')[2].removeprefix('test_').replace('_', ' ')}"


def module(test):
    return test.id().split(".")[0].removeprefix("test_")


def cases(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from cases(item)
        else:
            yield item


def run_here(tests):
    """Runs tests in this process."""
    # Some hold thousands of connections.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    result = Printed()
    unittest.TestSuite(tests).run(result)
    return result.counts()


class Files:
    """Runs files of tests, each in a process."""

    def __init__(self, names):
        self.names = names
        self.ports = list(range(20000, 32000, 12000 // AT_A_TIME))
        self.running = set()

    def run(self, file):
        """Runs one and prints what it has printed, all at once. Returns its counts."""
        first = self.ports.pop()
        results, answer = os.pipe()
        environment = {
            **os.environ,
            "FAULTS_FILE": file,
            "FAULTS_RESULTS": str(answer),
            "FAULTS_PORTS": f"{first}-{first + 12000 // AT_A_TIME}",
        }
        process = subprocess.Popen(
            [sys.executable, __file__, *self.names],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            pass_fds=[answer],
        )
        os.close(answer)
        self.running.add(process)
        output = process.communicate()[0]
        self.running.discard(process)
        self.ports.append(first)
        print(output, end="", flush=True)
        with os.fdopen(results) as text:
            counts = text.read()
        if not counts:
            print(f"FAIL  {file}: the process ended with {process.returncode}")
        return json.loads(counts or "[0, 1, 0]")

    def end(self):
        for process in list(self.running):
            process.terminate()


def run_files(files, names):
    """Runs files, some at a time, and returns the sums of their counts."""
    # Not by several at once.
    from kit.postgres import template

    template()
    files = sorted(files, key=lambda file: FIRST.index(file) if file in FIRST else len(FIRST))
    runner = Files(names)
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        try:
            done = list(pool.map(runner.run, files))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.end()
            raise
    return [sum(column) for column in zip(*done)]


def main(names):
    # An end that was asked for from outside ends the servers too, as ^C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    found = cases(unittest.defaultTestLoader.discover(TESTS))
    chosen = [test for test in found if not names or any(name in test.id() for name in names)]
    if file := os.environ.get("FAULTS_FILE"):
        counts = run_here([test for test in chosen if module(test) == file])
        with os.fdopen(int(os.environ["FAULTS_RESULTS"]), "w") as results:
            json.dump(counts, results)
        return 0
    began = time.monotonic()
    files = {module(test) for test in chosen}
    passed, failed, skipped = run_files(files, names) if files else (0, 0, 0)
    print(f"{time.monotonic() - began:.0f} s")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
