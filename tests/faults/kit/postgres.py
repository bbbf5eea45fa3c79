"""Private Postgres servers, each with a database and a role for either service."""

import os
import secrets
import shutil
import signal
import subprocess

from kit import settings
from kit.process import Process, children, free_port, group_of, kill_tree
from kit.wait import until


def _password():
    """One for all processes of a run."""
    file = settings.WORK / "password"
    if not file.exists():
        file.write_text(secrets.token_hex(16))
        # The work is in a folder that is closed to others.
        file.chmod(0o644)
    return file.read_text()


PASSWORD = _password()

CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = 32MB
# What was committed must be on the disk: the tests kill this server.
fsync = on
synchronous_commit = on
"""

ROLES = f"""
CREATE ROLE auth_service LOGIN PASSWORD '{PASSWORD}';
CREATE ROLE user_service LOGIN PASSWORD '{PASSWORD}';
CREATE ROLE standby LOGIN REPLICATION PASSWORD '{PASSWORD}';
CREATE DATABASE auth OWNER auth_service;
CREATE DATABASE users OWNER user_service;
"""


def run(*command, **options):
    """Runs a program of Postgres as its user: the server refuses to run as root."""
    user = settings.POSTGRES_USER or None
    identity = {"user": user, "group": group_of(user), "extra_groups": []} if user else {}
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=settings.WORK,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", **options.pop("env", {})},
        timeout=60,
        **identity,
    )
    if done.returncode:
        raise AssertionError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def template():
    """The files of a server that was never used, made once. Copying them is faster."""
    files = settings.WORK / "template"
    if not files.exists():
        run(
            settings.POSTGRES_BIN / "initdb",
            f"--pgdata={files}",
            "--no-sync",
            # Small ones, so that a copy of these files is small.
            "--wal-segsize=1",
            "--username=postgres",
            "--auth=scram-sha-256",
            f"--pwfile={settings.WORK / 'password'}",
            "--encoding=UTF8",
            "--locale=C",
        )
        with (files / "postgresql.conf").open("a") as configuration:
            configuration.write(CONFIGURATION)
        server = Postgres("template", files)
        server.start()
        for statement in ROLES.strip().splitlines():
            server.execute(statement)
        server.stop()
    return files


class Postgres:
    """One server."""

    def __init__(self, name, files=None, port=None):
        self.name = name
        self.port = port or free_port()
        self.files = files or settings.WORK / name
        if files is None:
            run("cp", "-a", template(), self.files)
        self.options = {}
        self.process = None

    @property
    def address(self):
        """Host and port, as a URL has them."""
        return f"127.0.0.1:{self.port}"

    def url(self, service, address=None):
        """The DATABASE_URL of `auth` or `user`."""
        role, database = {"auth": ("auth_service", "auth"), "user": ("user_service", "users")}[
            service
        ]
        return f"postgres://{role}:{PASSWORD}@{address or self.address}/{database}"

    def start(self, **options):
        """Starts it and waits until it answers; `options` of its configuration hold for later starts."""
        self.options |= options
        command = [settings.POSTGRES_BIN / "postgres", "-D", self.files, "-p", self.port]
        for name, value in self.options.items():
            command += ["-c", f"{name}={value}"]
        log = settings.WORK / f"{self.name}.postgres.log"
        log.touch()
        log.chmod(0o666)
        self.process = Process(command, log, user=settings.POSTGRES_USER or None)
        self.process.start()
        self.wait_ready()
        return self

    def wait_ready(self, seconds=30):
        """Waits until it answers."""

        def answers():
            if not self.process.is_running():
                raise AssertionError(f"Postgres has ended\n{self.process.tail()}")
            try:
                return self.query("SELECT 1") == "1"
            except AssertionError:
                return False

        until(answers, seconds, lambda: f"Postgres answers\n{self.process.tail()}")

    def restart(self):
        """Stops it as an operator does, who cuts off its clients, and starts it again."""
        self.stop()
        self.start()

    def stop(self):
        """Stops it: a checkpoint, and its clients are cut off (pg_ctl's fast mode)."""
        self.process.send(signal.SIGINT)
        self.process.ends(60)

    def kill(self):
        """Ends it as a loss of power does, as far as its processes are concerned."""
        if self.process is not None and self.process.is_running():
            kill_tree(self.process.pid)
            self.process.kill()

    def standby(self, name):
        """A copy of this server that follows it. It is not started."""
        copy = Postgres(name, settings.WORK / name)
        run(
            settings.POSTGRES_BIN / "pg_basebackup",
            f"--pgdata={copy.files}",
            "--host=127.0.0.1",
            f"--port={self.port}",
            "--username=standby",
            "--write-recovery-conf",
            "--checkpoint=fast",
            env={"PGPASSWORD": PASSWORD},
        )
        return copy

    def promote(self):
        """Makes a standby the primary."""
        run(settings.POSTGRES_BIN / "pg_ctl", "promote", f"--pgdata={self.files}", "--wait")

    def remove(self):
        """Ends it and deletes its files."""
        self.kill()
        shutil.rmtree(self.files, ignore_errors=True)

    def pause(self):
        """Stops all its processes in the middle of what they do, so that it hangs."""
        self.process.send(signal.SIGSTOP)
        for child in children(self.process.pid):
            os.kill(child, signal.SIGSTOP)

    def go_on(self):
        """Ends a pause."""
        for child in children(self.process.pid):
            os.kill(child, signal.SIGCONT)
        self.process.send(signal.SIGCONT)

    def query(self, sql, database="postgres"):
        """What a statement answers, in psql's unaligned form."""
        return run(
            settings.POSTGRES_BIN / "psql",
            "-XqAt",
            "-v",
            "ON_ERROR_STOP=1",
            f"--dbname=postgres://postgres@{self.address}/{database}",
            f"--command={sql}",
            env={"PGPASSWORD": PASSWORD, "PGCONNECT_TIMEOUT": "5"},
        ).strip()

    execute = query
