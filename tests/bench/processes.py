"""What is measured: processes, their databases, and what they cost."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

TICKS = os.sysconf("SC_CLK_TCK")
BINARIES = pathlib.Path(os.environ.get("BIN_DIR", "target/release"))


class Failed(Exception):
    """A section cannot be measured: what went wrong, for people."""


def free_port() -> int:
    """A port below the range from which systems choose ports by themselves."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


class Server:
    """A process that serves, and where."""

    def __init__(self, process: subprocess.Popen, ports: dict[str, int], errors: pathlib.Path):
        self.process = process
        self.ports = ports
        self.errors = errors

    def url(self, edge: str = "rest") -> str:
        return f"http://127.0.0.1:{self.ports[edge]}"

    def check(self) -> None:
        if (code := self.process.poll()) is not None:
            tail = self.errors.read_text(errors="replace").strip().splitlines()[-5:]
            program = pathlib.Path(self.process.args[0]).name
            raise Failed(f"{program} ended with status {code}: " + " | ".join(tail))

    def ready(self, *edges: str, path: str = "/readyz", pause: float = 0.02) -> None:
        """Waits until these edges answer, for at most 30 s."""
        deadline = time.monotonic() + 30
        for edge in edges or ("rest",):
            while True:
                try:
                    with urllib.request.urlopen(self.url(edge) + path, timeout=2):
                        break
                except (urllib.error.URLError, OSError):
                    self.check()
                    if time.monotonic() > deadline:
                        raise Failed(f"{self.process.args[0]} is not ready after 30 s") from None
                    time.sleep(pause)

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return cpu_of(self.process.pid)

    def memory(self, field: str = "VmRSS") -> int:
        """Resident bytes; with VmHWM, the most that there were."""
        return kilobytes(f"/proc/{self.process.pid}/status", field) * 1024

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def stat_of(pid: int) -> list[str]:
    # The name, in brackets, may have spaces.
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_of(pid: int, with_ended_children: bool = False) -> float:
    fields = stat_of(pid)[11 : 15 if with_ended_children else 13]
    return sum(map(int, fields)) / TICKS


def kilobytes(file: str, field: str) -> int:
    for line in pathlib.Path(file).read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise Failed(f"{file} has no {field}")


class Postgres:
    """The server that the wrapper has started, or that it was given."""

    def __init__(self) -> None:
        self.base = os.environ["BENCH_POSTGRES_URL"]
        pid = os.environ.get("BENCH_POSTGRES_PID")
        # A server that somebody else runs may be on another machine.
        self.pid = int(pid) if pid else None
        self.databases: list[str] = []

    def sql(self, statements: str, url: str | None = None) -> str:
        """Runs them; returns bare rows."""
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url or self.base]
        done = subprocess.run(
            command, input=statements, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"psql: {done.stderr.strip()}")
        return done.stdout.strip()

    def create(self) -> str:
        """Creates a database; returns its URL."""
        name = f"latchkey_bench_{os.getpid()}_{len(self.databases)}"
        self.sql(f"CREATE DATABASE {name}")
        self.databases.append(name)
        return urllib.parse.urlsplit(self.base)._replace(path=f"/{name}").geturl()

    def drop(self) -> None:
        for name in self.databases:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")
        self.databases.clear()

    def processes(self) -> list[int]:
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if int(stat_of(int(entry.name))[1]) == self.pid:
                        found.append(int(entry.name))
        return found

    def cpu(self) -> float:
        """Seconds of all its processes, those that have ended included."""
        if self.pid is None:
            return 0.0
        total = cpu_of(self.pid, with_ended_children=True)
        for pid in self.processes():
            with contextlib.suppress(OSError):  # it may just have ended
                total += cpu_of(pid)
        return total

    def memory(self) -> int:
        """Proportional bytes of all its processes; 0 where they cannot be read."""
        total = 0
        for pid in [self.pid, *self.processes()] if self.pid else []:
            with contextlib.suppress(OSError):
                total += kilobytes(f"/proc/{pid}/smaps_rollup", "Pss") * 1024
        return total


class Bench:
    """What one section has started. All of it ends with the `with` block."""

    # Whether each process is a session, and so a scheduling group, of its own, as a service manager starts it.
    own_sessions = False

    def __enter__(self) -> Bench:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="latchkey-bench."))
        self.servers: list[Server] = []
        self.loads: list[subprocess.Popen] = []
        self.postgres = Postgres()
        self.files = 0
        return self

    def __exit__(self, *_: object) -> None:
        for load in self.loads:
            if load.returncode is None:
                load.kill()
                load.wait()
        for server in self.servers:
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.postgres.drop()

    def file(self, name: str) -> pathlib.Path:
        """A new name in the section's folder."""
        self.files += 1
        return self.folder / f"{self.files}-{name}"

    def database(self, engine: str) -> str:
        """The URL of a new, empty database."""
        return self.postgres.create() if engine == "Postgres" else f"sqlite://{self.file('db')}"

    def spawn(
        self, program: str, *words: str, ports: dict[str, int], ready: bool = True, **settings: str
    ) -> Server:
        errors = self.file(f"{program}.err")
        # Nothing of the caller's environment, and no .env file, is to change what is measured.
        environment = {"PATH": os.environ["PATH"], **settings}
        with errors.open("wb") as sink:
            process = subprocess.Popen(
                [str(BINARIES / program), *words],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=sink,
                start_new_session=self.own_sessions,
            )
        server = Server(process, ports, errors)
        self.servers.append(server)
        if ready:
            server.ready(*(edge for edge in ports if edge.endswith("rest")))
        return server

    def service(self, program: str, ready: bool = True, **settings: str) -> Server:
        """Starts auth-service or user-service."""
        ports = {"rest": free_port(), "grpc": free_port()}
        common = {
            "HTTP_ADDR": f"127.0.0.1:{ports['rest']}",
            "GRPC_ADDR": f"127.0.0.1:{ports['grpc']}",
            "ADMIN_ADDR": "off",
            "LOG_FORMAT": "json",
        }
        return self.spawn(program, ports=ports, ready=ready, **{**common, **settings})

    def both(self, data: pathlib.Path, ready: bool = True, **settings: str) -> Server:
        """Starts both services in one process. Its edges are rest, grpc, auth-rest, auth-grpc."""
        ports = {name: free_port() for name in ("rest", "grpc", "auth-rest", "auth-grpc")}
        common = {
            "USER_HTTP_ADDR": f"127.0.0.1:{ports['rest']}",
            "USER_GRPC_ADDR": f"127.0.0.1:{ports['grpc']}",
            "USER_ADMIN_ADDR": "off",
            "AUTH_HTTP_ADDR": f"127.0.0.1:{ports['auth-rest']}",
            "AUTH_GRPC_ADDR": f"127.0.0.1:{ports['auth-grpc']}",
            "AUTH_ADMIN_ADDR": "off",
            "DATA_DIR": str(data),
            "LOG_FORMAT": "json",
        }
        return self.spawn("latchkey", ports=ports, ready=ready, **{**common, **settings})

    def fixed(self) -> Server:
        """Starts what answers everything with one profile."""
        ports = {"rest": free_port(), "grpc": free_port()}
        words = ["static", *(f"127.0.0.1:{port}" for port in ports.values())]
        server = self.spawn("bench", *words, ports=ports, ready=False)
        server.ready(path="/users/x")
        return server

    def bare_read(self, database: str) -> Server:
        """Starts what does nothing but one read."""
        port = free_port()
        server = self.spawn(
            "bench",
            *("floor", f"127.0.0.1:{port}"),
            ports={"rest": port},
            ready=False,
            DATABASE_URL=database,
        )
        server.ready(path=f"/users/{profile_id(1)}")
        return server

    def bare_update(self, database: str) -> Server:
        """Starts what does nothing but one UPDATE of one row."""
        port = free_port()
        words = ["floor-update", f"127.0.0.1:{port}"]
        return self.spawn("bench", *words, ports={"rest": port}, DATABASE_URL=database)

    def run(self, program: str, *words: str, **settings: str) -> str:
        """Runs a command of one of the programs to its end; returns what it prints."""
        environment = {"PATH": os.environ["PATH"], **settings}
        command = [str(BINARIES / program), *words]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"{program} {words[0]}: {done.stderr.strip()}")
        return done.stdout

    def check(self) -> None:
        for server in self.servers:
            server.check()


def profile_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def fill_profiles(bench: Bench, database: str, count: int) -> None:
    """Inserts profiles with the ids 1 to count. A row is the same on both engines."""
    if not database.startswith("sqlite://"):
        bench.postgres.sql(
            f"""INSERT INTO profiles
                SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
                       'person' || n || '@example.com', 1, 'Person ' || n,
                       repeat('A text about this person, of a usual length. ', 3), 1, at, at
                FROM generate_series(1, {count}) AS n,
                     LATERAL (SELECT to_timestamp(1700000000 + n / 1e6) AS at) AS t;
                VACUUM ANALYZE profiles;""",
            database,
        )
        return
    rows = (
        (
            uuid.UUID(profile_id(n)).bytes,
            f"person{n}@example.com",
            1,
            f"Person {n}",
            "A text about this person, of a usual length. " * 3,
            1,
            1_700_000_000_000_000 + n,
            1_700_000_000_000_000 + n,
        )
        for n in range(1, count + 1)
    )
    with sqlite3.connect(database.removeprefix("sqlite://"), timeout=30) as connection:
        connection.executemany("INSERT INTO profiles VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("ANALYZE")
    connection.close()


def fill_accounts(bench: Bench, database: str, count: int) -> None:
    """Makes accounts with the emails person1 to person<count>@example.com.

    All have the password of the one account that is there, and its hash. Ids are in the order of
    creation, as the service's own are (UUID version 7).
    """
    if not database.startswith("sqlite://"):
        bench.postgres.sql(
            f"""INSERT INTO accounts (id, email, password_hash, hash_scheme, created_at)
                SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008000'
                        || lpad(to_hex(n), 12, '0'))::uuid,
                       'person' || n || '@example.com', password_hash, hash_scheme,
                       to_timestamp(1700000000 + n / 1e3)
                FROM (SELECT password_hash, hash_scheme FROM accounts LIMIT 1) AS one,
                     generate_series(1, {count}) AS n;
                VACUUM ANALYZE accounts;
                CHECKPOINT;""",
            database,
        )
        return
    with sqlite3.connect(database.removeprefix("sqlite://"), timeout=30) as connection:
        one = "SELECT password_hash, hash_scheme FROM accounts LIMIT 1"
        password_hash, scheme = connection.execute(one).fetchone()
        rows = (
            (
                bytes.fromhex(f"{1_700_000_000_000 + n:012x}70008000{n:012x}"),
                f"person{n}@example.com",
                password_hash,
                scheme,
                1_700_000_000_000_000 + n * 1000,
            )
            for n in range(1, count + 1)
        )
        connection.executemany(
            "INSERT INTO accounts (id, email, password_hash, hash_scheme, created_at)"
            " VALUES (?, ?, ?, ?, ?)",
            rows,
        )
        connection.execute("ANALYZE")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
