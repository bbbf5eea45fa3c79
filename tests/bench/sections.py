"""What is measured, a function for each section. Each returns what goes into tests/bench/data."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from .load import Ghz, Load, Wrk, together
from .processes import Bench, Failed, Server, fill_accounts, fill_profiles, profile_id

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = int(os.environ.get("SECONDS_EACH", "2"))
# Many logins take longer than that: what is cut off at the end must not count for much.
LOGIN_SECONDS = SECONDS * 5 // 2
PAGES_ROWS = int(os.environ.get("PAGES_ROWS", "10000000"))
SCALE_ROWS = [int(n) for n in os.environ.get("SCALE_ROWS", "1000,1000000,10000000").split(",")]
SQLITE_MOST_ROWS = 1_000_000
PROFILES = 10_000
FRESH_TOKENS = 30_000
CALLER = profile_id(0)
PASSWORD = "S3cureP@ss"
ENGINES = ("SQLite", "Postgres")
NO_LIMITS = {"LOGINS_PER_MINUTE": "0", "REGISTRATIONS_PER_MINUTE": "0"}
# Cheap hashes, none of which is refused.
CHEAP_HASHES = {"BCRYPT_COST": "10", "HASH_QUEUE_TIMEOUT": "60"}
NO_FAILURES = {"LOGIN_FAILURES_PER_PAIR": "0", "LOGIN_FAILURES_PER_ACCOUNT": "0"}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class Cell:
    """One contender under one load, and what was measured of it in each round."""

    group: str
    contender: str
    connections: int
    start: Callable[[], list[Load]]
    servers: list[Server]
    postgres: bool = False
    results: list[dict] = field(default_factory=list)

    def measure(self, bench: Bench) -> None:
        cpu = [server.cpu() for server in self.servers]
        database = bench.postgres.cpu() if self.postgres else 0.0
        try:
            result = together([load.finish() for load in self.start()])
        except Failed as failure:
            bench.check()  # a server that has ended says more
            raise Failed(f"{self.group}, {self.contender}: {failure}") from None
        bench.check()
        result["cpu"] = sum(s.cpu() - before for s, before in zip(self.servers, cpu, strict=True))
        result["memory"] = sum(server.memory() for server in self.servers)
        if self.postgres and bench.postgres.pid:
            result["database_cpu"] = bench.postgres.cpu() - database
            result["database_memory"] = bench.postgres.memory()
        self.results.append(result)

    def data(self) -> dict:
        names = ("group", "contender", "connections", "results")
        return {name: getattr(self, name) for name in names}


def take_turns(
    bench: Bench, cells: list[Cell], before_round: Callable[[], None] = lambda: None
) -> list[dict]:
    """Measures all cells in each round. Within a group, each round begins with another one."""
    groups: dict[tuple, list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.group, cell.connections), []).append(cell)
    for number in range(ROUNDS):
        before_round()
        for members in groups.values():
            first = number % len(members)
            for cell in members[first:] + members[:first]:
                cell.measure(bench)
        say(f"  round {number + 1} of {ROUNDS}")
    return [cell.data() for cell in cells]


class Signer:
    """A key of one algorithm, and tokens for the caller that are signed with it."""

    def __init__(self, bench: Bench, algorithm: str):
        self.algorithm = algorithm
        if algorithm == "HS256":
            self.key = secrets.token_hex(32)
            self.settings = {"JWT_SECRET": self.key}
            return
        self.key = {
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }[algorithm]()
        file = bench.file("public.pem")
        pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        file.write_bytes(self.key.public_key().public_bytes(*pem))
        self.settings = {"JWT_PUBLIC_KEY_FILE": str(file)}

    def token(self, **more: object) -> str:
        now = int(time.time())
        claims = {"sub": CALLER, "email": "caller@example.com", "iat": now, "exp": now + 6 * 3600}
        return jwt.encode({**claims, **more}, self.key, self.algorithm)

    def many(self, bench: Bench) -> str:
        """A file with tokens of which the service cannot remember most."""
        file = bench.file("tokens")
        file.write_text("".join(self.token(jti=str(n)) + "\n" for n in range(FRESH_TOKENS)))
        return str(file)


def wrk_read(bench: Bench, server: Server, connections: int, token: str, seconds=SECONDS) -> Wrk:
    return Wrk(bench, server.url(), "read", connections, seconds, token, PROFILES=PROFILES)


def reads() -> dict:
    cells = []
    for engine in ENGINES:
        with Bench() as bench:
            cells += reads_on(bench, engine)
    return {"cells": cells}


def reads_on(bench: Bench, engine: str) -> list[dict]:
    say(f"  {engine}")
    signers = {name: Signer(bench, name) for name in ("HS256", "RS256", "ES256", "EdDSA")}
    url = bench.database(engine)
    bench.run("user-service", "migrate", DATABASE_URL=url, **signers["HS256"].settings)
    fill_profiles(bench, url, PROFILES)

    fixed, bare = bench.fixed(), bench.bare_read(url)
    servers = {
        name: bench.service("user-service", DATABASE_URL=url, **signer.settings)
        for name, signer in signers.items()
    }
    warn = bench.service(
        "user-service", DATABASE_URL=url, LOG_LEVEL="warn", **signers["HS256"].settings
    )
    tokens = {name: signer.token() for name, signer in signers.items()}
    contenders = {"bare read": (bare, ""), "static": (fixed, "")}
    contenders |= {name: (servers[name], tokens[name]) for name in servers}
    only_32 = {"HS256, LOG_LEVEL=warn": (warn, tokens["HS256"])}

    for server, token in [*contenders.values(), *only_32.values()]:
        # The caller's profile is made here, and everything is warm afterwards.
        wrk_read(bench, server, 8, token, 1).finish()

    cells = []
    for connections in (1, 4, 32, 256):
        for name, (server, token) in (contenders | (only_32 if connections == 32 else {})).items():

            def start(server=server, token=token, connections=connections) -> list[Load]:
                return [wrk_read(bench, server, connections, token)]

            cells.append(
                Cell(f"{engine}, REST", name, connections, start, [server], engine == "Postgres")
            )
        if connections == 32:
            for name, server in servers.items():
                file = signers[name].many(bench)

                def start(server=server, file=file) -> list[Load]:
                    more = {"PROFILES": PROFILES, "TOKENS": file}
                    return [Wrk(bench, server.url(), "read", 32, SECONDS, **more)]

                label = f"{name}, another token each time"
                cells.append(
                    Cell(f"{engine}, REST", label, 32, start, [server], engine == "Postgres")
                )
    for connections in (1, 32, 256):
        for name in ("static", "HS256", "RS256"):
            server, token = contenders[name]

            def start(server=server, token=token, connections=connections) -> list[Load]:
                address = f"127.0.0.1:{server.ports['grpc']}"
                return [Ghz(bench, address, connections, SECONDS, token or None)]

            cells.append(
                Cell(f"{engine}, gRPC", name, connections, start, [server], engine == "Postgres")
            )
    return take_turns(bench, cells)


def auth_service(bench: Bench, database: str, **settings: str) -> Server:
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    common = {
        "DATABASE_URL": database,
        "KEY_ENCRYPTION_KEY": key,
    }
    return bench.service("auth-service", **{**common, **NO_LIMITS, **settings})


def call(url: str, body: dict | None = None, token: str = "") -> dict:
    """Posts the body, or gets what is there; returns the JSON of the answer."""
    headers = {"Content-Type": "application/json"} if body else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise Failed(f"{url}: {error.code} {error.read().decode(errors='replace')}") from None


def register(auth: str, email: str = "a@b.com") -> None:
    call(f"{auth}/auth/register", {"email": email, "password": PASSWORD})


def log_in(auth: str) -> str:
    return call(f"{auth}/auth/login", {"email": "a@b.com", "password": PASSWORD})["access_token"]


def calibrate(bench: Bench) -> dict:
    """The cores that hash, and how many milliseconds one hash takes while no other is computed."""
    key = base64.b64encode(bytes(32)).decode()
    text = bench.run("auth-service", "calibrate", "--target-ms", "30", KEY_ENCRYPTION_KEY=key)
    cores = re.search(r"(\d+) cores? hash", text)
    bcrypt = re.search(r"^bcrypt:10 +([\d.]+)", text, re.MULTILINE)
    argon2id = re.search(r"^argon2id:19456,2,1 +([\d.]+)", text, re.MULTILINE)
    if not (cores and bcrypt and argon2id):
        raise Failed(f"calibrate prints something else: {text}")
    return {
        "cores": int(cores[1]),
        "bcrypt, cost 10": float(bcrypt[1]),
        "Argon2id, default parameters": float(argon2id[1]),
    }


def logins() -> dict:
    with Bench() as bench:
        variants = {
            ("bcrypt, cost 10", "bcrypt crate"): {"BCRYPT_INTERLEAVE": "false"},
            ("bcrypt, cost 10", "bcrypt-lanes"): {},
            ("Argon2id, default parameters", "argon2id"): {"PASSWORD_HASH": "argon2id"},
        }
        cells = []
        for (group, name), settings in variants.items():
            settings = {"LOG_LEVEL": "warn", **NO_FAILURES, **CHEAP_HASHES, **settings}
            server = auth_service(bench, bench.database("SQLite"), **settings)
            register(server.url())
            for connections in (1, 64) if name == "argon2id" else (1, 2, 8, 64):

                def start(server=server, connections=connections) -> list[Load]:
                    # What the last one has left behind is dropped meanwhile.
                    time.sleep(0.3)
                    return [Wrk(bench, server.url(), "login", connections, LOGIN_SECONDS)]

                cells.append(Cell(group, name, connections, start, [server]))
        alone: list[dict] = []
        data = take_turns(bench, cells, lambda: alone.append(calibrate(bench)))
    return {"cells": data, "alone": alone, "seconds_each": LOGIN_SECONDS}


def pages() -> dict:
    with Bench() as bench:
        signer = Signer(bench, "HS256")
        url = bench.database("Postgres")
        bench.run("user-service", "migrate", DATABASE_URL=url, **signer.settings)
        say(f"  filling in {PAGES_ROWS:,} profiles")
        began = time.monotonic()
        bench.postgres.sql(
            f"""INSERT INTO profiles
                SELECT lpad(to_hex(n), 32, '0')::uuid, 'person' || n || '@example.com', 1,
                       'Person ' || n, 'A text about this person, of a usual length.', 1, at, at
                FROM generate_series(1, {PAGES_ROWS}) AS n,
                     LATERAL (SELECT to_timestamp(1700000000 + n / 1e3) AS at) AS t;
                VACUUM ANALYZE profiles;
                CHECKPOINT;""",
            url,
        )
        say(f"  filled in after {time.monotonic() - began:.0f} s")
        server = bench.service(
            "user-service", DATABASE_URL=url, LOG_LEVEL="warn", **signer.settings
        )
        token = signer.token()
        last = PAGES_ROWS // 50
        # The key of page tokens is made with the first page that has a next one.
        first = "/users?page_size=50"
        call(server.url() + first, token=token)
        mark = bench.run("bench", "page-token", str(PAGES_ROWS - 50), DATABASE_URL=url).strip()
        paths = {"page 1": first, f"page {last:,}": f"{first}&page_token={mark}"}
        page = call(server.url() + paths[f"page {last:,}"], token=token)
        found = [user["id"] for user in page["users"]]
        wanted = [f"{n:032x}" for n in range(PAGES_ROWS - 49, PAGES_ROWS + 1)]
        if [id.replace("-", "") for id in found] != wanted:
            raise Failed(f"page {last} has other profiles: {found}")

        cells = []
        for connections in (1, 32):
            for name, path in paths.items():

                def start(path=path, connections=connections, seconds=SECONDS) -> list[Load]:
                    load = Wrk(
                        bench, server.url(), "path", connections, seconds, token, TARGET=path
                    )
                    return [load]

                if connections == 32:
                    start(connections=8, seconds=1)[0].finish()
                cells.append(Cell("Postgres", name, connections, start, [server], True))
        data = take_turns(bench, cells)

        columns = (
            "SELECT id, email, email_iat, name, bio, version, created_at, updated_at FROM profiles"
        )
        where = bench.postgres.sql(
            f"""SELECT format('(created_at, id) > (%L, %L)', created_at, id) FROM profiles
                ORDER BY created_at, id OFFSET {PAGES_ROWS} - 51 LIMIT 1""",
            url,
        )
        order = "ORDER BY created_at, id LIMIT 51"
        plans = {
            "page 1": f"{columns} {order}",
            f"page {last:,}": f"{columns} WHERE {where} {order}",
        }
        plans = {
            name: bench.postgres.sql(f"EXPLAIN (ANALYZE, BUFFERS) {query}", url)
            for name, query in plans.items()
        }
    return {"cells": data, "plans": plans, "rows": PAGES_ROWS}


def replicas() -> dict:
    with Bench() as bench:
        signer = Signer(bench, "HS256")
        url = bench.database("Postgres")
        bench.run("user-service", "migrate", DATABASE_URL=url, **signer.settings)
        fill_profiles(bench, url, PROFILES)
        token = signer.token()
        servers = [
            bench.service("user-service", DATABASE_URL=url, **signer.settings) for _ in range(4)
        ]
        for server in servers:
            wrk_read(bench, server, 8, token, 1).finish()
        cells = []
        for count in (1, 2, 4):

            def start(count=count) -> list[Load]:
                return [wrk_read(bench, server, 32 // count, token) for server in servers[:count]]

            name = "1 process" if count == 1 else f"{count} processes"
            cells.append(Cell("Postgres", name, 32, start, servers[:count], True))
        return {"cells": take_turns(bench, cells)}


def scale() -> dict:
    with Bench() as bench:
        contenders: dict[str, dict[int, Server]] = {}
        for engine in ENGINES:
            for count in SCALE_ROWS:
                if engine == "SQLite" and count > SQLITE_MOST_ROWS:
                    continue
                url = bench.database(engine)
                # The cheapest hash there is, so that the database shows.
                server = auth_service(
                    bench,
                    url,
                    PASSWORD_HASH="argon2id",
                    ARGON2_MEMORY_KIB="7168",
                    ARGON2_ITERATIONS="1",
                    HASH_QUEUE_TIMEOUT="60",
                    LOG_LEVEL="warn",
                )
                register(server.url())
                say(f"  {engine}: filling in {count:,} accounts")
                fill_accounts(bench, url, count)
                contenders.setdefault(engine, {})[count] = server
        cells = []
        for engine, servers in contenders.items():
            for kind in ("register", "login"):
                for count, server in servers.items():

                    def start(server=server, kind=kind, count=count) -> list[Load]:
                        # RUN: emails that no other round has.
                        more = {"ACCOUNTS": count, "RUN": secrets.token_hex(6)}
                        return [Wrk(bench, server.url(), kind, 8, SECONDS, **more)]

                    start()[0].finish()  # everything is warm afterwards
                    group = f"{engine}, {kind}"
                    name = f"{count:,} accounts"
                    cells.append(Cell(group, name, 8, start, [server], engine == "Postgres"))
        return {"cells": take_turns(bench, cells)}
