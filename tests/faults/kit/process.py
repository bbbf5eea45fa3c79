"""Processes: ports for them, their end, and what the kernel tells of them."""

import atexit
import os
import pathlib
import pwd
import random
import signal
import socket
import subprocess

from kit import settings
from kit.wait import until

# In an order that other runs do not have.
_ports = iter(random.sample(settings.PORTS, len(settings.PORTS)))


def free_port():
    """A port of 127.0.0.1 that nobody has, below the range from which the kernel chooses by itself.
    It is given once: who gets it may bind it later, and again after a restart."""
    for port in _ports:
        with socket.socket() as probe:
            # As the servers do: a port whose last connections still linger is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


_running = set()


@atexit.register
def _end_all():
    """An interrupted run skips the cleanups of its tests."""
    for process in list(_running):
        process.kill()


class Process:
    """A server that this test runs: its output is in a log, across restarts."""

    def __init__(self, command, log, environment=None, user=None, limits=""):
        """Of our environment it gets the PATH alone. `limits` are arguments of prlimit, such as
        --nofile=1024."""
        self.command = [str(part) for part in command]
        if limits:
            self.command = ["prlimit", *limits.split(), *self.command]
        self.log = pathlib.Path(log)
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", **(environment or {})}
        self.user = user
        self.child = None

    def start(self):
        """Starts it, or starts it again."""
        # As another user it has none of our groups.
        identity = {"user": self.user, "group": group_of(self.user), "extra_groups": []}
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.log.parent,
                # A ^C ends the tests, which end the servers.
                start_new_session=True,
                **(identity if self.user else {}),
            )
        _running.add(self)
        return self

    @property
    def pid(self):
        """The number of the process that runs, or ran last."""
        return self.child.pid

    def is_running(self):
        """Whether it has been started and has not ended."""
        return self.child is not None and self.child.poll() is None

    def send(self, number):
        """Sends a signal."""
        self.child.send_signal(number)

    def kill(self):
        """Ends it as kill -9 does."""
        if self.is_running():
            self.child.kill()
        if self.child is not None:
            self.child.wait()
        _running.discard(self)

    def ends(self, seconds):
        """Waits for its end and returns its exit status."""
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.command[0]} goes on after {seconds} s\n{self.tail()}"
            ) from None

    def stop(self, seconds=30):
        """Asks it to end and returns its exit status."""
        self.send(signal.SIGTERM)
        return self.ends(seconds)

    def resident(self, peak=False):
        """How much memory it uses, or has used at most since `forget_peak`, in MiB."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:" if peak else "VmRSS:")[1].split()[0]) / 1024

    def forget_peak(self):
        """Lets the kernel note anew how much memory it uses at most."""
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def tail(self, lines=15):
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def group_of(user):
    """The group that a user has by default."""
    return pwd.getpwnam(user).pw_gid if user else None


def children(pid):
    """The processes that a process has started."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and parent_and_state(int(entry.name))[0] == pid:
            found.append(int(entry.name))
    return found


def parent_and_state(pid):
    """Who started a process, and the letter of its state; (0, "X") where there is none."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0, "X"
    # The name before it is in brackets and may hold anything.
    state, parent = text.rpartition(")")[2].split()[:2]
    return int(parent), state


def kill_tree(pid):
    """Ends a process and its children at once, with kill -9, so that none sees another go."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: parent_and_state(pid)[1] in "TXZ", 5, "a stopped process")
    family = [*children(pid), pid]
    for member in family:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            pass
    until(lambda: all(parent_and_state(member)[1] in "XZ" for member in family), 10, "all are gone")
