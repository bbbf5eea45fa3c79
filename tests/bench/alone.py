"""What is measured of the processes by themselves: their memory over time, their start and their size."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import secrets
import time

from .load import Load, Wrk
from .processes import BINARIES, Bench, Server, fill_profiles
from .sections import (
    CHEAP_HASHES,
    LOGIN_SECONDS,
    NO_FAILURES,
    NO_LIMITS,
    PROFILES,
    Signer,
    auth_service,
    call,
    log_in,
    register,
    say,
    wrk_read,
)

SOAK_SECONDS = int(os.environ.get("SOAK_SECONDS", "600"))


def soak() -> dict:
    with Bench() as bench:
        auth = auth_service(bench, bench.database("Postgres"), **NO_FAILURES, **CHEAP_HASHES)
        database = bench.database("Postgres")
        jwks = f"{auth.url()}/.well-known/jwks.json"
        user = bench.service("user-service", DATABASE_URL=database, JWKS_URL=jwks)
        fill_profiles(bench, database, PROFILES)
        register(auth.url())
        token = log_in(auth.url())
        own = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["sub"]
        call(f"{user.url()}/users/{own}", token=token)
        before = {"auth-service": auth.memory(), "user-service": user.memory()}

        began = time.monotonic()
        common = {"seconds": SOAK_SECONDS, "token": token}
        loads = {
            "GET /users/{id}": wrk_read(bench, user, 8, token, SOAK_SECONDS),
            "GET /users": Wrk(bench, user.url(), "path", 2, TARGET="/users?page_size=50", **common),
            "PATCH /users/{id}": Wrk(
                bench, user.url(), "update", 1, TARGET=f"/users/{own}", **common
            ),
            "POST /auth/login": Wrk(bench, auth.url(), "login", 4, SOAK_SECONDS),
        }
        samples = []
        pause = min(5.0, SOAK_SECONDS / 12)
        while (at := time.monotonic() - began) < SOAK_SECONDS:
            bench.check()
            sample = {"at": at, "auth-service": auth.memory(), "user-service": user.memory()}
            if bench.postgres.pid:
                sample["Postgres"] = bench.postgres.memory()
            samples.append(sample)
            time.sleep(pause)
        results = {name: load.finish() for name, load in loads.items()}
        bench.check()
    return {"before": before, "samples": samples, "results": results, "length": SOAK_SECONDS}


def footprint() -> dict:
    with Bench() as bench:
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        signer = Signer(bench, "HS256")
        auth_settings = {"BCRYPT_COST": "10", **NO_LIMITS, **NO_FAILURES}

        def auth(path: pathlib.Path) -> Server:
            url = f"sqlite://{path}"
            settings = {"DATABASE_URL": url, "KEY_ENCRYPTION_KEY": key, **auth_settings}
            return bench.service("auth-service", ready=False, **settings)

        def user(path: pathlib.Path) -> Server:
            url = f"sqlite://{path}"
            return bench.service("user-service", ready=False, DATABASE_URL=url, **signer.settings)

        def both(path: pathlib.Path) -> Server:
            return bench.both(path, ready=False, **auth_settings)

        programs = {"auth-service": auth, "user-service": user, "latchkey": both}
        starts: dict[str, dict[str, list[float]]] = {}
        for name, start in programs.items():
            starts[name] = {"fresh": [], "existing": []}
            for _ in range(10):
                path = bench.file("start")
                for database in ("fresh", "existing"):
                    began = time.monotonic()
                    server = start(path)
                    edges = [edge for edge in server.ports if edge.endswith("rest")]
                    server.ready(*edges, pause=0.001)
                    starts[name][database].append((time.monotonic() - began) * 1e3)
                    server.stop()
                    bench.servers.remove(server)
        say("  starts")

        memory = {}
        for name, start in programs.items():
            path = bench.file("load")
            server = start(path)
            server.ready(*(edge for edge in server.ports if edge.endswith("rest")))
            time.sleep(2)
            memory[name] = {"idle": server.memory()}
            loads: list[Load] = []
            if name != "user-service":
                auth_url = server.url("auth-rest" if name == "latchkey" else "rest")
                register(auth_url)
                token = log_in(auth_url)
                loads.append(Wrk(bench, auth_url, "login", 8, LOGIN_SECONDS))
            if name != "auth-service":
                if name == "user-service":
                    token = signer.token()
                file = path / "user.db" if name == "latchkey" else path
                fill_profiles(bench, f"sqlite://{file}", PROFILES)
                loads.append(wrk_read(bench, server, 32, token, LOGIN_SECONDS))
            for load in loads:
                load.finish()
            bench.check()
            memory[name]["load"] = server.memory("VmHWM")
            server.stop()
            bench.servers.remove(server)
    sizes = {name: (BINARIES / name).stat().st_size for name in programs}
    return {"starts": starts, "memory": memory, "sizes": sizes}
