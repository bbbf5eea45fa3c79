"""What is measured of sessions: refreshes, how soon a logout is known everywhere, and what following costs."""

from __future__ import annotations

import concurrent.futures
import json
import os
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from .load import Load, Wrk
from .processes import Bench, Failed, Server
from .sections import (
    CHEAP_HASHES,
    ENGINES,
    NO_FAILURES,
    PASSWORD,
    ROUNDS,
    SECONDS,
    Cell,
    auth_service,
    call,
    register,
    say,
)

ROWS = int(os.environ.get("SESSIONS_ROWS", "1000000"))
LOGOUTS = int(os.environ.get("LOGOUTS", "50"))
FOLLOWERS = 10
# How long the poll of the followers is watched, in seconds.
WATCH = 20
# Logins are made for each figure, so their hash is the cheapest there is.
CHEAP = {"PASSWORD_HASH": "argon2id", "ARGON2_MEMORY_KIB": "7168", "ARGON2_ITERATIONS": "1"}
COMMON = {
    "LOG_LEVEL": "warn",
    "REFRESHES_PER_MINUTE": "0",
    "SESSIONS_PER_ACCOUNT": "0",
    **NO_FAILURES,
    **CHEAP_HASHES,
}


def begin(auth: str) -> dict:
    """Begins a session."""
    body = {"email": "a@b.com", "password": PASSWORD, "offline_access": True}
    return call(f"{auth}/auth/login", body)


def fresh_sessions(bench: Bench, auth: str, count: int) -> str:
    """A file with the tokens of new sessions."""
    file = bench.file("sessions")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        tokens = pool.map(lambda _: begin(auth)["refresh_token"], range(count))
        file.write_text("".join(f"{token}\n" for token in tokens))
    return str(file)


def refreshes(
    bench: Bench, server: Server, connections: int, sessions: Callable[[int], str]
) -> Callable[[], list[Load]]:
    """Refreshes over so many connections. wrk forgets the answers that come too late, so each figure has
    sessions of its own."""

    def start() -> list[Load]:
        file = sessions(connections + 8)
        return [Wrk(bench, server.url(), "refresh", connections, SECONDS, SESSIONS=file)]

    return start


def fill_sessions(bench: Bench, database: str, count: int) -> None:
    """Adds sessions to the one account, as they are after a while: refreshed, and of another day each."""
    if not database.startswith("sqlite://"):
        bench.postgres.sql(
            f"""INSERT INTO sessions
                SELECT gen_random_uuid(), account, at, at, at + interval '14 days', 7, 6,
                       '6:' || (extract(epoch FROM at) * 1000000)::bigint || ';',
                       '192.0.2.7', 'Mozilla/5.0 (X11; Linux x86_64) of a usual length'
                FROM (SELECT id AS account FROM accounts LIMIT 1) AS one,
                     generate_series(1, {count}) AS n,
                     LATERAL (SELECT now() - n * interval '1 second' AS at) AS t;
                VACUUM ANALYZE sessions;
                CHECKPOINT;""",
            database,
        )
        return
    with sqlite3.connect(database.removeprefix("sqlite://"), timeout=60) as connection:
        (account,) = connection.execute("SELECT id FROM accounts LIMIT 1").fetchone()
        now, second = int(time.time()) * 1_000_000, 1_000_000
        rows = (
            (
                os.urandom(16),
                account,
                now - n * second,
                now - n * second,
                now + (14 * 86_400 - n) * second,
                7,
                6,
                f"6:{now - n * second};",
                "192.0.2.7",
                "Mozilla/5.0 (X11; Linux x86_64) of a usual length",
            )
            for n in range(1, count + 1)
        )
        connection.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("ANALYZE")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def rates(bench: Bench, engine: str) -> tuple[list[dict], list[dict]]:
    """Refreshes against the floor, with many sessions, and while logins are saturated."""
    say(f"  {engine}")
    is_postgres = engine == "Postgres"
    floor = bench.bare_update(bench.database(engine))
    rows = bench.file("rows")
    rows.write_text("".join(f"{number}\n" for number in range(1024)))
    servers = {}
    for name, settings in {
        "refresh, EdDSA": {"JWT_ALGORITHM": "EdDSA", **CHEAP},
        "refresh, RS256": {**CHEAP},
        f"refresh, EdDSA, {ROWS:,} sessions": {"JWT_ALGORITHM": "EdDSA", **CHEAP},
        "busy": {"JWT_ALGORITHM": "EdDSA"},
    }.items():
        database = bench.database(engine)
        server = servers[name] = auth_service(bench, database, **{**COMMON, **settings})
        register(server.url())
        if name.endswith("sessions"):
            fill_sessions(bench, database, ROWS)
    busy = servers.pop("busy")
    contenders = {"bare UPDATE": (floor, lambda _: str(rows))}
    for name, server in servers.items():

        def sessions(count: int, server: Server = server) -> str:
            return fresh_sessions(bench, server.url(), count)

        contenders[name] = (server, sessions)

    cells = []
    for connections in (1, 32):
        for name, (server, sessions) in contenders.items():
            start = refreshes(bench, server, connections, sessions)
            if connections == 1:
                start()[0].finish()  # everything is warm afterwards
            cells.append(Cell(engine, name, connections, start, [server], is_postgres))

    # While logins take every core, a new session would wait for its hash: they are begun before.
    prepared = {"idle": "", "saturated": ""}
    beside = [
        Cell(
            f"{engine}, beside logins",
            f"refresh, {state}",
            4,
            lambda state=state: [
                Wrk(bench, busy.url(), "refresh", 4, SECONDS, SESSIONS=prepared[state])
            ],
            [busy],
            is_postgres,
        )
        for state in prepared
    ]
    for number in range(ROUNDS):
        for connections in (1, 32):
            members = [cell for cell in cells if cell.connections == connections]
            first = number % len(members)
            for cell in members[first:] + members[:first]:
                cell.measure(bench)
        for state in prepared:
            prepared[state] = fresh_sessions(bench, busy.url(), 12)
        beside[0].measure(bench)
        saturation = Wrk(bench, busy.url(), "login", 64, SECONDS + 15)
        time.sleep(2)  # until all connections wait for a hash
        beside[1].measure(bench)
        saturation.interrupt()
        saturation.finish()
        time.sleep(1)  # what is still being hashed ends
        say(f"  round {number + 1} of {ROUNDS}")
    return [cell.data() for cell in cells], [cell.data() for cell in beside]


def status(url: str, token: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def follow_logout(auth: Server, users: list[Server], wait: float) -> list[float]:
    """Seconds from the answer of a logout until each user service refuses the token."""
    session = begin(auth.url())
    token = session["access_token"]
    for user in users:
        if (seen := status(f"{user.url()}/users/me", token)) != 200:
            raise Failed(f"a fresh token is answered {seen}")
    time.sleep(wait)
    body = {"refresh_token": session["refresh_token"]}
    done = urllib.request.Request(
        f"{auth.url()}/auth/logout",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(done, timeout=30):
        began = time.monotonic()
    known: dict[int, float] = {}
    while len(known) < len(users):
        for number, user in enumerate(users):
            if number not in known and status(f"{user.url()}/users/me", token) == 401:
                known[number] = time.monotonic() - began
        if time.monotonic() - began > 60:
            raise Failed("a logout is not known after 60 s")
        time.sleep(0.02)
    return list(known.values())


def logouts(bench: Bench) -> dict:
    """How soon logouts are known at one and at ten user services, and what their polls cost."""
    auth = auth_service(bench, bench.database("SQLite"), **{**COMMON, **CHEAP})
    register(auth.url())

    def cost() -> dict:
        before = auth.cpu()
        time.sleep(WATCH)
        return {"cpu": (auth.cpu() - before) / WATCH, "memory": auth.memory()}

    costs = {"0": cost()}
    users: list[Server] = []
    seconds = {}
    for count in (1, FOLLOWERS):
        while len(users) < count:
            users.append(
                bench.service(
                    "user-service",
                    LOG_LEVEL="warn",
                    DATABASE_URL=bench.database("SQLite"),
                    JWKS_URL=f"{auth.url()}/.well-known/jwks.json",
                )
            )
        time.sleep(3)
        costs[str(count)] = cost()
        say(f"  {LOGOUTS} logouts at {count} user services")
        found = []
        for number in range(LOGOUTS):
            # At another moment of their polls each time.
            found += follow_logout(auth, users, 0.37 * (number % 7))
        seconds[str(count)] = found
    return {"logouts": seconds, "polls": costs}


def sessions() -> dict:
    cells, beside = [], []
    for engine in ENGINES:
        with Bench() as bench:
            alone, busy = rates(bench, engine)
            cells += alone
            beside += busy
    with Bench() as bench:
        return {"cells": cells, "beside": beside, "rows": ROWS, **logouts(bench)}
