"""Three Postgres servers under Patroni, each on a machine of its own as far as the network is concerned."""

import base64
import json
import os
import pwd
import secrets
import subprocess
import time
import urllib.request

from kit import settings
from kit.process import Process, group_of, kill_tree
from kit.wait import until

PATRONI = os.environ["PATRONI_PROGRAM"]
CONFIGURATION = settings.EXAMPLES / "patroni" / "patroni.yml"

# The network between the servers and etcd, and the one that the services come by. Here is .1 in both.
INNER, OUTER = "10.99.1", "10.99.2"
NAMES = ("pg1", "pg2", "pg3")
PASSWORD = secrets.token_hex(16)

DATABASES = {"auth": ("auth_service", "auth"), "user": ("user_service", "users")}


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True, capture_output=True)


def make_networks():
    """Two bridges, and a namespace for each server with a leg on both."""
    for bridge, network in (("inner", INNER), ("outer", OUTER)):
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", f"{network}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
    for number, name in enumerate(NAMES, 11):
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
        for bridge, network in (("inner", INNER), ("outer", OUTER)):
            leg = f"{name}-{bridge}"
            ip("link", "add", leg, "type", "veth", "peer", "name", bridge, "netns", name)
            ip("link", "set", leg, "master", bridge, "up")
            ip("-n", name, "addr", "add", f"{network}.{number}/24", "dev", bridge)
            ip("-n", name, "link", "set", bridge, "up")


def remove_networks():
    for name in NAMES:
        ip("netns", "delete", name)
    for bridge in ("inner", "outer"):
        ip("link", "delete", bridge)


class Member:
    """One server."""

    def __init__(self, cluster, name, number):
        self.name = name
        self.inner, self.outer = f"{INNER}.{number}", f"{OUTER}.{number}"
        self.data = cluster.folder / name
        self.api = f"http://{self.outer}:8008"
        # Patroni makes it, and wants it for itself alone.
        user = settings.POSTGRES_USER
        command = ["ip", "netns", "exec", name, "setpriv", f"--reuid={user}"]
        command += [f"--regid={group_of(user)}", "--clear-groups", PATRONI, CONFIGURATION]
        environment = {
            "HOME": str(cluster.folder),
            "PATRONI_NAME": name,
            "PATRONI_ETCD3_HOSTS": f"{INNER}.1:2379",
            "PATRONI_RESTAPI_LISTEN": "0.0.0.0:8008",
            "PATRONI_RESTAPI_CONNECT_ADDRESS": f"{self.inner}:8008",
            "PATRONI_RESTAPI_USERNAME": "operator",
            "PATRONI_RESTAPI_PASSWORD": PASSWORD,
            "PATRONI_POSTGRESQL_LISTEN": "0.0.0.0:5432",
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS": f"{self.inner}:5432",
            "PATRONI_POSTGRESQL_DATA_DIR": str(self.data),
            "PATRONI_POSTGRESQL_BIN_DIR": str(settings.POSTGRES_BIN),
            "PATRONI_POSTGRESQL_PGPASS": str(cluster.folder / f"{name}.pgpass"),
        }
        for role in ("SUPERUSER", "REPLICATION", "REWIND"):
            name = {"SUPERUSER": "postgres", "REPLICATION": "replicator", "REWIND": "rewind"}[role]
            environment[f"PATRONI_{role}_USERNAME"] = name
            environment[f"PATRONI_{role}_PASSWORD"] = PASSWORD
        self.process = Process(command, cluster.folder / f"{self.name}.log", environment)

    def start(self):
        self.process.start()
        return self

    def postmaster(self):
        """The process of its Postgres; None where there is none."""
        try:
            return int((self.data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def kill(self):
        """Ends everything on it at once with kill -9, as a loss of power does."""
        postmaster = self.postmaster()
        self.process.kill()
        if postmaster:
            try:
                kill_tree(postmaster)
            except ProcessLookupError:
                pass

    def cut(self, *bridges):
        """Cuts it off from the other servers and etcd (inner) or from the services (outer)."""
        for bridge in bridges:
            ip("link", "set", f"{self.name}-{bridge}", "down")

    def join(self, *bridges):
        """Ends a cut."""
        for bridge in bridges:
            ip("link", "set", f"{self.name}-{bridge}", "up")

    def query(self, sql, database="postgres"):
        """What a statement answers, in psql's unaligned form."""
        done = subprocess.run(
            [settings.POSTGRES_BIN / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql]
            + [f"postgres://postgres@{self.outer}:5432/{database}"],
            env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD, "PGCONNECT_TIMEOUT": "3"},
            capture_output=True,
            text=True,
            timeout=30,
        )
        if done.returncode:
            raise AssertionError(f"{self.name}: {done.stderr}")
        return done.stdout.strip()


class Cluster:
    """Etcd and three servers."""

    def __init__(self, name):
        self.folder = settings.WORK / name
        self.folder.mkdir()
        os.chown(self.folder, *_ids())
        make_networks()
        etcd = ["etcd", f"--data-dir={self.folder}/etcd", "--log-level=warn"]
        etcd += [f"--listen-client-urls=http://{INNER}.1:2379"]
        etcd += [f"--advertise-client-urls=http://{INNER}.1:2379"]
        etcd += ["--listen-peer-urls=http://127.0.0.1:2380", "--unsafe-no-fsync"]
        if "unsafe-no-fsync" not in subprocess.run(["etcd", "--help"], capture_output=True, text=True).stdout:
            etcd.pop()
        self.etcd = Process(etcd, self.folder / "etcd.log")
        self.members = [Member(self, name, number) for number, name in enumerate(NAMES, 11)]

    def start(self):
        """Starts everything, and makes the roles and databases of the services."""
        self.etcd.start()
        for member in self.members:
            member.start()
        until(lambda: self.is_whole(), 60, self.tails)
        leader = self.leader()
        for role, database in DATABASES.values():
            leader.query(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
            leader.query(f"CREATE DATABASE {database} OWNER {role}")
        return self

    def url(self, service):
        """The DATABASE_URL of `auth` or `user`: all servers; the leader is for the service to find."""
        role, database = DATABASES[service]
        hosts = ",".join(f"{member.outer}:5432" for member in self.members)
        return f"postgres://{role}:{PASSWORD}@{hosts}/{database}?target_session_attrs=read-write"

    def ask(self, path, body=None, through=None, method="POST"):
        """What Patroni's REST API answers at the first member that does."""
        for member in [through] if through else self.members:
            request = urllib.request.Request(f"{member.api}{path}", method=method if body else "GET")
            if body:
                request.data = json.dumps(body).encode()
                login = base64.b64encode(f"operator:{PASSWORD}".encode()).decode()
                request.add_header("Authorization", f"Basic {login}")
                request.add_header("Content-Type", "application/json")
            try:
                with urllib.request.urlopen(request, timeout=30 if body else 2) as answer:
                    content = answer.read()
            except OSError:
                continue
            return json.loads(content) if not body else content
        return None

    def roles(self, through=None):
        """The role of each member that streams or leads, as Patroni tells it."""
        cluster = self.ask("/cluster", through=through) or {"members": []}
        return {
            member["name"]: member["role"]
            for member in cluster["members"]
            if member.get("state") in ("running", "streaming")
        }

    def leader(self, through=None):
        """The member that leads; None where there is none."""
        leaders = [name for name, role in self.roles(through).items() if role == "leader"]
        return next((member for member in self.members if member.name in leaders), None)

    def is_whole(self):
        """Whether one leads, one follows synchronously, and the third follows too."""
        roles = sorted(self.roles().values())
        return roles == ["leader", "replica", "sync_standby"]

    def be_asynchronous(self):
        """Lets the leader acknowledge what no follower has."""
        change = {"synchronous_mode": False, "synchronous_mode_strict": False}
        self.ask("/config", change, method="PATCH")
        until(
            lambda: sorted(self.roles().values()) == ["leader", "replica", "replica"]
            and self.leader().query("SHOW synchronous_standby_names") == "",
            30,
            self.tails,
        )

    def switch(self):
        """Moves the leader away, as before an upgrade of its machine."""
        leader = self.leader()
        answer = self.ask("/switchover", {"leader": leader.name}, through=leader)
        until(lambda: self.leader() not in (None, leader), 30, lambda: f"{answer} {self.tails()}")

    def tails(self):
        return "\n".join(f"{m.name}:\n{m.process.tail(12)}" for m in self.members)

    def remove(self):
        for member in self.members:
            member.kill()
        self.etcd.kill()
        remove_networks()
        time.sleep(0.2)


def _ids():
    entry = pwd.getpwnam(settings.POSTGRES_USER)
    return entry.pw_uid, entry.pw_gid
