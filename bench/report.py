"""Writes the figures of a benchmark into its section of bench/RESULTS.md.

    report.py get FIGURES ROUNDS SECONDS
    report.py logins FIGURES ROUNDS SECONDS
    report.py pages FIGURES ROUNDS SECONDS PLAN

FIGURES has a line for each measurement, with tabs between: engine, connections, contender,
requests, microseconds, median and 99th percentile of the latency in microseconds, failures.
"""

import datetime
import os
import pathlib
import statistics
import sys

RESULTS = pathlib.Path(__file__).with_name("RESULTS.md")
TITLES = {
    "get": "GET /users/{id} against the bare read",
    "logins": "Logins with several hashes at once",
    "pages": "Page 1 and page 200,000 of ten million profiles",
}
HEAD = """# What requests cost

The loader, the service and the database share one small machine that does other work too: the
figures are noisy, and only the ratios between lines of one table count. Each cell is the median of
the rounds; in brackets are the lowest and the highest. p50 and p99 are medians of the rounds too.
The ratio is the median, over the rounds, of a line's requests a second to the first line's of the
same round. The contenders take turns within a round.

Again: `bench/run`, `bench/logins` and `bench/pages`, which replace their sections. They need wrk,
openssl and python3, and Postgres as `scripts/test` does. Load goes to 127.0.0.1 only.
"""


def machine():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return f"{today}, {os.cpu_count()} cores, {memory:.0f} GiB of memory"


def read(file):
    groups = {}
    for line in pathlib.Path(file).read_text().splitlines():
        engine, connections, name, requests, micros, p50, p99, failed = line.split("\t")
        if int(failed):
            sys.exit(f"{failed} requests failed: {engine}, {connections} connections, {name}")
        rate = int(requests) / (int(micros) / 1e6)
        cell = groups.setdefault((engine, int(connections)), {})
        cell.setdefault(name, []).append((rate, int(p50), int(p99)))
    return groups


def table(group, first):
    lines = [
        "| | requests/s | ratio | p50 ms | p99 ms |",
        "|---|---:|---:|---:|---:|",
    ]
    base = [rate for rate, _, _ in group[first]]
    for name in [first, *(name for name in sorted(group) if name != first)]:
        rates, p50, p99 = zip(*group[name])
        ratios = [rate / floor for rate, floor in zip(rates, base, strict=True)]
        middle = statistics.median
        lines.append(
            f"| {name} | {middle(rates):,.0f} ({min(rates):,.0f}–{max(rates):,.0f}) "
            f"| {middle(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) "
            f"| {middle(p50) / 1e3:.3f} | {middle(p99) / 1e3:.3f} |"
        )
    return "\n".join(lines)


def plural(connections):
    return "1 connection" if connections == 1 else f"{connections} connections"


def get(figures):
    parts = [
        "10,000 profiles; each request asks for a random one that is not the caller's own, so that the "
        "service reads two rows in its one query. The floor reads one row and checks no token. The "
        "log at `info` goes to /dev/null."
    ]
    for (engine, connections), group in sorted(read(figures).items()):
        parts.append(f"### {engine}, {plural(connections)}\n\n{table(group, 'floor')}")
    return parts


def logins(figures):
    parts = [
        "bcrypt at cost 10, one account, two hashing threads. With `bcrypt-lanes` a thread computes up to "
        "four hashes at once while more wait than there are threads."
    ]
    for (_, connections), group in sorted(read(figures).items()):
        parts.append(f"### {plural(connections)}\n\n{table(group, 'bcrypt crate')}")
    return parts


def pages(figures, plan):
    parts = ["`GET /users?page_size=50` on Postgres, HS256, `LOG_LEVEL=warn`."]
    for (_, connections), group in sorted(read(figures).items()):
        parts.append(f"### {plural(connections)}\n\n{table(group, 'page 1')}")
    text = pathlib.Path(plan).read_text().strip()
    parts.append(f"### The plans\n\n```\n{text}\n```")
    return parts


def main():
    kind, figures, rounds, seconds, *rest = sys.argv[1:]
    parts = {"get": get, "logins": logins, "pages": pages}[kind](figures, *rest)
    when = f"{machine()}. {rounds} rounds of {seconds} s."
    sections = {}
    if RESULTS.exists():
        for section in RESULTS.read_text().split("\n## ")[1:]:
            title, _, body = section.partition("\n")
            sections[title] = body.strip()
    sections[TITLES[kind]] = "\n\n".join([when, *parts])
    texts = [f"## {title}\n\n{sections[title]}\n" for title in TITLES.values() if title in sections]
    RESULTS.write_text("\n".join([HEAD, *texts]))


main()
