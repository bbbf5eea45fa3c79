"""Makes RESULTS.md from what was measured."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from statistics import median

RESULTS = pathlib.Path(__file__).with_name("RESULTS.md")
MEGABYTE = 1e6
HEAD = """# What requests cost

The loader, the service and the database share one small machine that may do other work too: the
figures are noisy, and only the ratios between lines of one table count. Each cell is the median of
the rounds; in brackets are the lowest and the highest. The ratio is the median, over the rounds, of
a line's requests a second to the first line's of the same round. The contenders take turns within
a round. p50 and p99 are medians of the rounds.

CPU is the processor time of the service, of Postgres (the sum over its processes, where there is
one) and of the loader, in this order: in microseconds for each request, and in cores (seconds of it
for each second). Memory is that of the service (resident) and of Postgres (proportional, with its
shared buffers), after the load.

The load is a closed loop: each connection asks again as soon as it is answered, and most tables
saturate the machine. What is called a latency here is that under full load.

Again: `tests/bench/run` for everything, `tests/bench/run reads logins` for some sections; see its head for what
it needs and for the settings. The data is in `tests/bench/data`; `tests/bench/run --report` makes this page and
the plots from it. A request that fails ends a section: there are none in these figures.
"""


def write(sections: dict[str, dict]) -> None:
    parts = [HEAD]
    for name, data in sections.items():
        title, body = SECTIONS[name](data)
        parts.append("\n\n".join([f"## {title}", conditions(data), *body]) + "\n")
    RESULTS.write_text("\n".join(parts))


def conditions(data: dict) -> str:
    at = data["conditions"]
    # Some sections take longer for each figure than others.
    seconds = data.get("seconds_each", at["seconds_each"])
    rounds = f" {plural(at['rounds'], 'round')} of {seconds} s." if "cells" in data else ""
    return (
        f"{at['date']}, {at['cores']} cores ({at['processor']}), {at['memory']} GiB of memory, "
        f"Linux {at['kernel']}; Postgres {at['postgres']}, rustc {at['rustc']}.{rounds}"
    )


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def image(name: str, text: str) -> str:
    return f"![{text}](plots/{name}.svg)"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rates(cell: dict) -> list[float]:
    return [result["requests"] / result["seconds"] for result in cell["results"]]


def middle(cell: dict, field: str) -> float:
    return median(result[field] for result in cell["results"])


def spread(values: list[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return f"{format(median(values), form)} ({low}–{high})"


def comparison(cells: list[dict]) -> str:
    """The table of the contenders of one group; the first is what the others are compared to."""
    return table(
        ["", "requests/s", "ratio", "p50 ms", "p99 ms", "CPU µs/request", "cores", "memory MB"],
        (row(cell, rates(cells[0])) for cell in cells),
    )


def row(cell: dict, base: list[float]) -> list[str]:
    parts = [name for name in ("cpu", "database_cpu", "loader_cpu") if name in cell["results"][0]]
    memory = [name for name in ("memory", "database_memory") if name in cell["results"][0]]

    def cost(name: str, per: str) -> float:
        return median(result[name] / result[per] for result in cell["results"])

    return [
        cell["contender"],
        spread(rates(cell), ",.0f"),
        spread([rate / first for rate, first in zip(rates(cell), base, strict=True)], ".2f"),
        f"{middle(cell, 'p50') / 1e3:,.3f}",
        f"{middle(cell, 'p99') / 1e3:,.3f}",
        " / ".join(f"{cost(name, 'requests') * 1e6:,.0f}" for name in parts),
        " / ".join(f"{cost(name, 'seconds'):.2f}" for name in parts),
        " / ".join(f"{middle(cell, name) / MEGABYTE:,.0f}" for name in memory),
    ]


def comparisons(data: dict) -> list[str]:
    """A table for each group and number of connections."""
    groups: dict[tuple, list[dict]] = {}
    for cell in data["cells"]:
        groups.setdefault((cell["group"], cell["connections"]), []).append(cell)
    return [
        f"### {group}, {plural(count, 'call' if 'gRPC' in group else 'connection')}\n\n"
        + comparison(cells)
        for (group, count), cells in groups.items()
    ]


def reads(data: dict) -> tuple[str, list[str]]:
    text = """`GET /users/{id}` by wrk and `GetUser` by ghz. 10,000 profiles; each request asks for one that is
not the caller's own, a random one over REST, so that the service reads two rows in its one query.
`bare read` is axum with one read of one row by sqlx, without token, log and rules; `static` is axum
(or tonic) with one answer of the same size and no database. The log at `info` goes to /dev/null.

The service remembers the tokens that it has verified, so that the algorithm hardly counts for a
client that uses its token more than once. Where there is another token each time, there are 30,000
in turn, three times as many as it remembers. ghz takes much more of the machine than wrk does, and
uses at most 8 connections for the calls under way; compare the two edges by the service's CPU."""
    return "GET /users/{id} against the floors", [
        text,
        image("reads-sqlite", "Requests a second on SQLite"),
        image("reads-postgres", "Requests a second on Postgres"),
        *comparisons(data),
    ]


def logins(data: dict) -> tuple[str, list[str]]:
    text = """`POST /auth/login`, SQLite, one account, as many hashing threads as cores. With `bcrypt-lanes` a thread
computes up to four hashes at once as soon as one waits and no thread is idle."""
    cores = data["alone"][0]["cores"]
    single = {
        cell["group"]: rates(cell) for cell in reversed(data["cells"]) if cell["connections"] == 1
    }
    rows = []
    for cell in data["cells"]:
        if cell["connections"] == 64:
            figures = [f"{cell['contender']} ({cell['group']})", spread(rates(cell), ".0f")]
            alone = [1e3 / one[cell["group"]] for one in data["alone"]]
            for base in (alone, single[cell["group"]]):
                shares = [rate / (cores * one) for rate, one in zip(rates(cell), base, strict=True)]
                figures += [f"{median(base):.1f}", spread(shares, ".0%")]
            rows.append(figures)
    alone = f"""### Logins at 64 connections beside one hash at a time on {cores} cores

100 % is what all cores would do if each computed one hash after the other and nothing else. The time
of one hash alone is taken by `auth-service calibrate` in each round, with the bcrypt crate or the
argon2 crate, in a process that has just started; and, beside it, by the logins over one connection
(of the first contender)."""
    head = ["", "logins/s", "hashes/s alone", "share", "logins/s over one connection", "share"]
    return "Logins", [
        text,
        image("logins", "Logins a second"),
        *comparisons(data),
        alone,
        table(head, rows),
    ]


def isolation(data: dict) -> tuple[str, list[str]]:
    text = """Reads of random profiles while nothing else happens (idle), and while 64 connections log in without
pause (bcrypt at cost 10), which takes every core. *Without pause* is four connections that ask again as soon as they
are answered; *200/s* is a fixed rate, where each latency counts from when the request was due. `two processes` are
auth-service and user-service, `one process` is `cargo run`'s `latchkey`. In *one session* all processes share one
scheduling group; in *own sessions* each has its own, as systemd and containers start them. The control is a process
that answers from memory: what happens to it is done by the machine, on which hashing threads and loaders compete, not
by the services. The ratio is that of the medians of p99; the stall is the longest latency of all rounds."""
    parts = [text, image("isolation", "p99 while idle and while logins saturate the machine")]
    cells = {(cell["group"], cell["contender"]): cell for cell in data["cells"]}
    targets = list(dict.fromkeys(name.rpartition(", ")[0] for _, name in cells))
    for target in targets:
        rows = []
        for setup in data["logins"]:
            idle, busy = (cells[setup, f"{target}, {state}"] for state in ("idle", "saturated"))
            tails = ([result["p99"] / 1e3 for result in cell["results"]] for cell in (idle, busy))
            rows.append(
                [
                    setup,
                    *(spread(tail, ".2f") for tail in tails),
                    f"{middle(busy, 'p99') / middle(idle, 'p99'):.1f}",
                    *(f"{worst(cell):.1f}" for cell in (idle, busy)),
                    *(f"{median(rates(cell)):,.0f}" for cell in (idle, busy)),
                ]
            )
        head = ["", "p99 ms idle", "saturated", "ratio", "longest stall ms idle", "saturated"]
        head += ["requests/s idle", "saturated"]
        parts += [f"### {target[0].upper()}{target[1:]}", table(head, rows)]
    rows = []
    for setup, crowds in data["crowds"].items():
        saturation = [login["requests"] / login["seconds"] for login in data["logins"][setup]]
        done = [(crowd["requests"] - crowd["failed"]) / crowd["seconds"] for crowd in crowds]
        refused = [crowd["failed"] for crowd in crowds]
        rows.append(
            [setup, spread(saturation, ",.0f"), spread(done, ".1f"), spread(refused, ",.0f")]
        )
    head = ["", "logins/s, cost 10", "logins/s, cost 12, beside readers", "of them refused, in all"]
    note = f"""Logins of 64 clients: at cost 10 while the reads above were measured, and for {data["crowd_seconds"]} seconds with
default settings (bcrypt at cost 12) while four readers ask without pause."""
    parts += ["### Logins meanwhile", note, table(head, rows)]
    return "Reads while logins saturate the machine, and logins while reads do", parts


def worst(cell: dict) -> float:
    """The longest latency, in milliseconds."""
    return max(result["max"] for result in cell["results"]) / 1e3


def pages(data: dict) -> tuple[str, list[str]]:
    text = f"""`GET /users?page_size=50` on Postgres with {data["rows"]:,} profiles, HS256, `LOG_LEVEL=warn`."""
    plans = [f"-- {name}\n{plan}" for name, plan in data["plans"].items()]
    block = "### The plans\n\n```\n" + "\n\n".join(plans) + "\n```"
    title = f"Page 1 and page {data['rows'] // 50:,} of {data['rows']:,} profiles"
    return title, [text, *comparisons(data), block]


def replicas(data: dict) -> tuple[str, list[str]]:
    text = """`GET /users/{id}` of random profiles, HS256, by one to four user-service processes on one Postgres, with
32 connections in all, an equal share and a wrk of its own for each process. p99 is that of the worst
of them, p50 their mean; CPU and memory are sums. On a machine whose cores one process uses up, more
of them cannot be faster. They can be slower: reads that come together share a query in one process
only, so that the same load makes more queries, and each process has connections of its own."""
    return "Several replicas on one Postgres", [text, *comparisons(data)]


def scale(data: dict) -> tuple[str, list[str]]:
    text = """Registrations and logins over 8 connections with so many accounts in the database. Hashes are the
cheapest that can be set (Argon2id, 7 MiB, one pass), so that the database shows; bcrypt takes 15 times
as long and more. Logins are those of random accounts. Registrations add some thousand accounts to
each database. Postgres has 64 MB of shared buffers; the rest is in the system's page cache."""
    return "Many accounts", [
        text,
        image("scale", "Requests a second by accounts"),
        *comparisons(data),
    ]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def sessions(data: dict) -> tuple[str, list[str]]:
    text = f"""`POST /auth/refresh` by wrk: each request presents the newest token of a session that no other request
is under way for. `bare UPDATE` is axum with one UPDATE of one row by its key through an sqlx pool, without
token, signature and rules. A refresh reads the session, moves it, and signs an access token; an RS256
signature costs more than all the rest. {data["rows"]:,} sessions are there beside those that are refreshed
where a line says so. The CPU of refreshes includes the logins that began their sessions."""
    rows = []
    pairs = zip(data["beside"][::2], data["beside"][1::2], strict=True)
    for idle, busy in pairs:
        figures = [idle["group"].split(",")[0]]
        for field in ("p50", "p99"):
            for cell in (idle, busy):
                values = [result[field] / 1e3 for result in cell["results"]]
                figures.append(spread(values, ".2f"))
        ratio = middle(busy, "p99") / middle(idle, "p99")
        rows.append([*figures, f"{ratio:.1f}"])
    head = ["", "p50 ms idle", "saturated", "p99 ms idle", "saturated", "ratio of p99"]
    known = table(
        ["user services", "logouts", "median s", "p99 s", "longest s"],
        (
            [
                count,
                f"{len(seconds) // int(count):,}",
                *(f"{percentile(seconds, share):.2f}" for share in (0.5, 0.99, 1)),
            ]
            for count, seconds in data["logouts"].items()
        ),
    )
    polls = table(
        ["user services that follow", "CPU of the auth service, % of a core", "its memory MB"],
        (
            [count, f"{cost['cpu'] * 100:.2f}", f"{cost['memory'] / MEGABYTE:.1f}"]
            for count, cost in data["polls"].items()
        ),
    )
    return "Sessions", [
        text,
        *comparisons(data),
        "### Refreshes over 4 connections while 64 connections log in without pause",
        table(head, rows),
        "### From the answer of a logout to the 401 at a user service",
        known,
        "### What it costs that user services follow the list of revoked tokens",
        polls,
    ]


def slope(samples: list[dict], name: str) -> float:
    """Bytes a minute, by least squares over the last half."""
    half = samples[len(samples) // 2 :]
    at, values = [s["at"] / 60 for s in half], [s[name] for s in half]
    mean_at, mean = sum(at) / len(at), sum(values) / len(values)
    below = sum((t - mean_at) ** 2 for t in at)
    return sum((t - mean_at) * (v - mean) for t, v in zip(at, values, strict=True)) / below


def soak(data: dict) -> tuple[str, list[str]]:
    length = data["length"]
    text = f"""{length} s of reads (8 connections), pages of 50 (2), changes of one profile (1) and logins (4; bcrypt
at cost 10) at once: auth-service and user-service as processes of their own on Postgres, tokens signed
with RS256 and verified by the JWKS. Not one request failed. Memory is sampled every 5 s."""
    samples, results = data["samples"], data["results"]
    requests = table(
        ["", "requests", "requests/s", "p50 ms", "p99 ms"],
        (
            [
                name,
                f"{one['requests']:,}",
                f"{one['requests'] / one['seconds']:,.0f}",
                f"{one['p50'] / 1e3:.2f}",
                f"{one['p99'] / 1e3:.2f}",
            ]
            for name, one in results.items()
        ),
    )
    times = [length * share for share in (0.1, 0.5, 1)]
    nearest = [min(samples, key=lambda sample: abs(sample["at"] - at)) for at in times]
    memory = table(
        [
            "MB",
            "before",
            *(f"after {at:.0f} s" for at in times),
            "slope of the last half, kB/minute",
        ],
        (
            [
                name,
                f"{data['before'][name] / MEGABYTE:.1f}",
                *(f"{sample[name] / MEGABYTE:.1f}" for sample in nearest),
                f"{slope(samples, name) / 1e3:+,.1f}",
            ]
            for name in data["before"]
        ),
    )
    return "A soak of both services", [text, image("soak", "Resident memory"), memory, requests]


def footprint(data: dict) -> tuple[str, list[str]]:
    text = """From the start of the process until `/readyz` is 200 on all of its edges, SQLite, ten times each. The
auth services make a signing key (RSA) in a fresh database. Memory is resident: two seconds after the
start, and the highest under load (32 connections that read, 8 that log in, or both), with SQLite's
caches. Sizes are of the stripped binaries."""
    rows = [
        [
            name,
            spread(data["starts"][name]["fresh"], ".0f"),
            spread(data["starts"][name]["existing"], ".0f"),
            f"{data['memory'][name]['idle'] / MEGABYTE:.1f}",
            f"{data['memory'][name]['load'] / MEGABYTE:.1f}",
            f"{data['sizes'][name] / MEGABYTE:.1f}",
        ]
        for name in data["starts"]
    ]
    head = [
        "",
        "ready in ms, fresh database",
        "existing database",
        "memory idle MB",
        "under load MB",
    ]
    return "Start, memory and size", [text, table([*head, "binary MB"], rows)]


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
