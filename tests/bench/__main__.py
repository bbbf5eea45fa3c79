"""Measures sections into tests/bench/data, and makes RESULTS.md and the plots from it. See tests/bench/run."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import time

from . import plots, report
from .alone import footprint, soak
from .isolation import isolation
from .processes import Failed, Postgres
from .sections import ROUNDS, SECONDS, logins, pages, reads, replicas, say, scale
from .sessions import sessions

# In the order in which they are measured and told.
SECTIONS = {
    section.__name__: section
    for section in (
        reads,
        logins,
        isolation,
        sessions,
        pages,
        replicas,
        footprint,
        scale,
        soak,
    )
}
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DATA = pathlib.Path(__file__).with_name("data")


def output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def conditions() -> dict:
    """When, where and on what this is measured."""
    model = re.search(
        r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE
    )
    return {
        "date": str(datetime.datetime.now(datetime.timezone.utc).date()),
        "cores": len(os.sched_getaffinity(0)),
        "processor": model[1] if model else platform.machine(),
        "memory": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "postgres": Postgres().sql("SHOW server_version").split()[0],
        "rustc": output("rustc", "--version").removeprefix("rustc ").split()[0],
        "rounds": ROUNDS,
        "seconds_each": SECONDS,
    }


def stop(number: int, _: object) -> None:
    """Ends by way of an exception, so that every `with` ends what it has started."""
    for other in STOPS:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> None:
    words = sys.argv[1:]
    if words != ["--report"]:
        if unknown := set(words) - set(SECTIONS):
            sys.exit(f"bench: there is no {', '.join(unknown)}; there are: {' '.join(SECTIONS)}")
        for number in STOPS:
            signal.signal(number, stop)
        failed = False
        DATA.mkdir(exist_ok=True)
        for name in words or SECTIONS:
            say(name)
            began = time.monotonic()
            try:
                data = {"conditions": conditions(), **SECTIONS[name]()}
            except Failed as failure:
                print(f"bench: {name}: {failure}", file=sys.stderr)
                failed = True
                continue
            say(f"  took {time.monotonic() - began:.0f} s")
            data = json.loads(json.dumps(data), parse_float=lambda text: round(float(text), 4))
            (DATA / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    sections = {
        name: json.loads(file.read_text())
        for name in SECTIONS
        if (file := DATA / f"{name}.json").exists()
    }
    plots.draw(sections)
    report.write(sections)
    if words != ["--report"] and failed:
        sys.exit(1)


main()
