"""What the tests of telemetry share: programs in the background, and people who use both services."""

import http.client
import json
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPERATIONS = ROOT / "docs/operations.md"


def until(what, patience=20.0, pause=0.1):
    """Asks again and again until the answer is true, and returns the last answer."""
    deadline = time.monotonic() + patience
    while True:
        answer = what()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(pause)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Program:
    """A program in the background, its output in a file."""

    def __init__(self, work, name, command, env=None):
        self.name = name
        self.log = work / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=work,
                env={"PATH": os.environ["PATH"], **(env or {})})

    def runs(self):
        return self.process.poll() is None

    def text(self):
        return self.log.read_text(errors="replace")

    def stop(self, patience=40):
        """Asks it to end. Returns its status and the seconds that it took."""
        began = time.monotonic()
        if self.runs():
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        return status, time.monotonic() - began

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop(5)


def request(method, address, path, body=None, headers=(), timeout=15):
    """An HTTP request. Returns status and text; status 0 where there was no answer."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        content = {"content-type": "application/json"} if body is not None else {}
        body = None if body is None else json.dumps(body)
        connection.request(method, path, body, {**content, **dict(headers)})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()


def field(number, text):
    """A string field of a protobuf message; of one shorter than 128 bytes."""
    data = text.encode()
    return bytes([number << 3 | 2, len(data)]) + data


def grpc(address, method, message=b"", headers=()):
    """A unary gRPC call by curl. Returns grpc-status, None without an answer. Without a message
    (None) the body is empty: curl 7.88 loses an answer that comes before it has sent the body."""
    frame = b"" if message is None else b"\0" + len(message).to_bytes(4, "big") + message
    command = ["curl", "--silent", "--noproxy", "*", "--max-time", "15", "--http2-prior-knowledge",
               "--output", os.devnull, "--dump-header", "-", "--data-binary", "@-",
               "--header", "content-type: application/grpc", "--header", "te: trailers"]
    for name, value in dict(headers).items():
        command += ["--header", f"{name}: {value}"]
    ran = subprocess.run([*command, f"http://{address}{method}"], input=frame, capture_output=True)
    status = re.search(rb"^grpc-status: (\d+)", ran.stdout, re.M)
    return status and int(status[1])


class Latchkey(Program):
    """Both services in one process."""

    NAMES = ["auth-http", "auth-grpc", "auth-admin", "user-http", "user-grpc", "user-admin"]

    def __init__(self, work, name, **env):
        ports = free_ports(len(self.NAMES))
        flags = []
        for flag, port in zip(self.NAMES, ports):
            setattr(self, flag.replace("-", "_"), f"127.0.0.1:{port}")
            flags += [f"--{flag}-addr", f"127.0.0.1:{port}"]
        self.metrics = {"auth-service": self.auth_admin, "user-service": self.user_admin}
        # The cheapest hash, because hashing is not what is measured here.
        settings = {"LOG_FORMAT": "json", "BCRYPT_COST": "10", **env}
        super().__init__(work, name, [sys.argv[1], "--ephemeral", *flags], settings)

    def ready(self):
        def both():
            probes = [request("GET", at, "/readyz")[0] for at in (self.auth_http, self.user_http)]
            return probes == [200, 200] or not self.runs()
        if not until(both, 60) or not self.runs():
            sys.exit(f"latchkey does not become ready:\n{self.text()[-3000:]}")
        return self


class Person:
    """Somebody who uses both services, with secrets that must show nowhere."""

    def __init__(self, latchkey):
        mark = secrets.token_hex(6)
        self.latchkey = latchkey
        self.email = f"sentinel-{mark}@example.com"
        self.password = f"sentinel password {mark}"
        self.wrong = f"sentinel guess {mark}"
        self.name = f"Sentinel Name {mark}"
        self.query = f"sentinelquery{mark}"
        self.path = f"sentinelpath{mark}"
        self.id = self.token = ""

    def secrets(self):
        mark = self.email.split("@")[0]
        return [mark, self.email, self.password, self.wrong, self.name, self.query, self.path,
                *self.token.split("."), "Bearer"]

    def credentials(self, password=None):
        return {"email": self.email, "password": password or self.password}

    def bearer(self, headers=()):
        return {"authorization": f"Bearer {self.token}", **dict(headers)}

    def register(self, headers=()):
        status, text = request("POST", self.latchkey.auth_http, "/auth/register",
                               self.credentials(), headers)
        if status == 201:
            self.id = json.loads(text)["id"]
        return status

    def login(self, headers=(), password=None):
        status, text = request("POST", self.latchkey.auth_http, "/auth/login",
                               self.credentials(password), headers)
        if status == 200:
            self.token = json.loads(text)["access_token"]
        return status

    def grpc_login(self, headers=(), password=None):
        message = field(1, self.email) + field(2, password or self.password)
        return grpc(self.latchkey.auth_grpc, "/auth.v1.AuthService/Login", message, headers)

    def read(self, headers=()):
        return request("GET", self.latchkey.user_http, f"/users/{self.id}", None,
                       self.bearer(headers))[0]

    def read_by_query(self):
        path = f"/users/{self.id}?access_token={self.query}"
        return request("GET", self.latchkey.user_http, path, None, self.bearer())[0]

    def stay_logged_in(self):
        """Begins a session and refreshes it once."""
        status, text = request("POST", self.latchkey.auth_http, "/auth/login",
                               {**self.credentials(), "offline_access": True})
        if status != 200:
            return status
        return request("POST", self.latchkey.auth_http, "/auth/refresh",
                       {"refresh_token": json.loads(text)["refresh_token"]})[0]

    def rename(self, headers=()):
        return request("PUT", self.latchkey.user_http, f"/users/{self.id}", {"name": self.name},
                       self.bearer(headers))[0]

    def grpc_read(self, headers=()):
        # A call without a token is refused before its message has arrived.
        message = field(1, self.id) if headers else None
        return grpc(self.latchkey.user_grpc, "/user.v1.UserService/GetUser", message, headers)

    def delete(self, headers=()):
        return request("DELETE", self.latchkey.user_http, f"/users/{self.id}", None,
                       self.bearer(headers))[0]
