"""What reads and logins do to each other: the tail of reads while logins saturate the machine, and the logins that
are refused while reads do."""

from __future__ import annotations

import time

from .load import Load, Paced, Wrk
from .processes import Bench, fill_profiles, profile_id
from .sections import (
    CHEAP_HASHES,
    ENGINES,
    NO_FAILURES,
    NO_LIMITS,
    PROFILES,
    ROUNDS,
    SECONDS,
    Cell,
    auth_service,
    log_in,
    register,
    say,
)

# Requests a second of the open loop.
RATE = 200
PROCESSES = ("two processes", "one process")
SESSIONS = ("one session", "own sessions")
# How long logins are counted with four readers beside them, in seconds.
CROWD_SECONDS = 10


def start_services(bench: Bench, processes: str, engine: str, **settings: str) -> tuple[str, str]:
    """Starts both services with 10,000 profiles and one account; returns the addresses of auth and user."""
    settings = {**NO_LIMITS, **NO_FAILURES, **settings}
    if processes == "two processes":
        auth = auth_service(bench, bench.database(engine), **settings).url()
        database = bench.database(engine)
        jwks = f"{auth}/.well-known/jwks.json"
        user = bench.service("user-service", DATABASE_URL=database, JWKS_URL=jwks).url()
    else:
        data = bench.file("data")
        database = f"sqlite://{data}/user.db"
        if engine == "Postgres":
            database = bench.database(engine)
            settings["USER_DATABASE_URL"] = database
            settings["AUTH_DATABASE_URL"] = bench.database(engine)
        server = bench.both(data, **settings)
        auth, user = server.url("auth-rest"), server.url()
    register(auth)
    fill_profiles(bench, database, PROFILES)
    return auth, user


def isolation() -> dict:
    cells: dict[tuple[str, str], Cell] = {}
    logins: dict[str, list[dict]] = {}
    crowds: dict[str, list[dict]] = {}
    setups = [
        (processes, engine, sessions)
        for processes in PROCESSES
        for engine in ENGINES
        for sessions in SESSIONS
    ]
    for number in range(ROUNDS):
        for setup in setups[number % 2 :] + setups[: number % 2]:
            name = ", ".join(setup)
            logins.setdefault(name, []).append(tail_of_reads(name, *setup, cells))
            crowds.setdefault(name, []).append(refused_logins(*setup))
        say(f"  round {number + 1} of {ROUNDS}")
    return {
        "cells": [cell.data() for cell in cells.values()],
        "logins": logins,
        "crowds": crowds,
        "crowd_seconds": CROWD_SECONDS,
    }


def tail_of_reads(
    name: str, processes: str, engine: str, sessions: str, cells: dict[tuple[str, str], Cell]
) -> dict:
    """Measures reads while nothing else happens and while 64 clients log in; returns the logins."""
    with Bench() as bench:
        bench.own_sessions = sessions == "own sessions"
        # Nothing is refused: the machine stays saturated.
        auth, user = start_services(bench, processes, engine, **CHEAP_HASHES)
        token = log_in(auth)
        fixed = bench.fixed()
        path = f"/users/{profile_id(1)}"

        def closed(server: str, kind: str = "path") -> Load:
            return Wrk(bench, server, kind, 4, SECONDS, token, TARGET=path, PROFILES=PROFILES)

        def paced(server: str) -> Load:
            return Paced(bench, server, path, RATE, SECONDS, token)

        targets = {
            "control, without pause": lambda: closed(fixed.url()),
            f"control, {RATE}/s": lambda: paced(fixed.url()),
            "reads, without pause": lambda: closed(user, "read"),
            f"reads, {RATE}/s": lambda: paced(user),
        }
        closed(user, "read").finish()

        def measure(state: str) -> None:
            for target, start in targets.items():
                key = (name, f"{target}, {state}")
                cell = cells.setdefault(key, Cell(*key, 4, lambda: [], []))
                cell.start = lambda start=start: [start()]
                cell.measure(bench)

        measure("idle")
        saturation = Wrk(bench, auth, "login", 64, len(targets) * (SECONDS + 5) + 10)
        time.sleep(2)  # until all connections wait for a hash
        measure("saturated")
        saturation.interrupt()
        return saturation.finish()


def refused_logins(processes: str, engine: str, sessions: str) -> dict:
    """Counts the logins of 64 clients with default settings while four readers ask without pause."""
    with Bench() as bench:
        bench.own_sessions = sessions == "own sessions"
        auth, user = start_services(bench, processes, engine)
        token = log_in(auth)
        readers = Wrk(bench, user, "read", 4, CROWD_SECONDS + 2, token, PROFILES=PROFILES)
        time.sleep(1)
        crowd = Wrk(bench, auth, "login", 64, CROWD_SECONDS)
        crowd.may_fail = True
        counted = crowd.finish()
        readers.finish()
        return counted
