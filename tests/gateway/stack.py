"""The processes of the gateway's tests: both services on SQLite, Envoy with deploy/gateway/envoy.yaml."""

import contextlib
import http.server
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ["LATCHKEY_BIN"])
GATEWAY = ROOT / "deploy/gateway"
VECTORS = ROOT / "crates/token-verifier/vectors/tokens.json"
SERVICE_TOKEN = secrets.token_urlsafe(32)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(condition, seconds, what):
    """Waits until a condition is true and returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.05)
    return value


class Answer:
    """An answer to a request by HTTP/1.1."""

    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        self.status = int(line.split()[1]) if line.startswith("HTTP/1.") else 0
        self.headers = {}
        for field in fields:
            name, _, value = field.partition(":")
            self.headers.setdefault(name.lower(), []).append(value.strip())

    def header(self, name):
        return ", ".join(self.headers.get(name, []))

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:300]!r}"


def complete(received):
    """Whether an answer of a stated length is all there: Envoy closes a second later."""
    head, end, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: *(\d+)", head, re.M)
    return bool(end and length) and len(body) >= int(length[1])


def request(port, method, path, fields=(), body=b"", source="127.0.0.1"):
    """Sends exactly these bytes on a connection of its own."""
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
        fields = [("content-type", "application/json"), *fields]
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", "connection: close"]
    lines += [f"content-length: {len(body)}"] if body else []
    lines += [f"{name}: {value}" for name, value in fields]
    raw = "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body
    with socket.create_connection(("127.0.0.1", port), 20, (source, 0)) as connection:
        connection.settimeout(40)
        connection.sendall(raw)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while not complete(received) and (part := connection.recv(65536)):
                received += part
    answer = Answer(received)
    if answer.header("transfer-encoding") == "chunked":
        answer.body = b"".join(
            part for part in re.split(rb"[0-9a-fA-F]+\r\n", answer.body) if part
        ).replace(b"\r\n", b"")
    return answer


class Process:
    """A program that is ended with the tests, its output in a file."""

    running = []

    def __init__(self, name, command, log, environment=None):
        self.name, self.log = name, log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env={"PATH": os.environ["PATH"], **(environment or {})},
            )
        Process.running.append(self)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def text(self):
        return self.log.read_text(errors="replace")

    def lines(self):
        """The lines of its log that are JSON."""
        for line in self.text().splitlines():
            with contextlib.suppress(ValueError):
                if isinstance(value := json.loads(line), dict):
                    yield value

    def cpu(self):
        """Seconds of CPU so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @classmethod
    def stop_all(cls):
        for process in reversed(cls.running):
            process.stop()


class Ports:
    """Where things listen."""

    def __init__(self):
        names = "auth auth_grpc user user_grpc gateway admin".split()
        for name in names:
            setattr(self, name, free_port())


COMMON = {
    "LOG_FORMAT": "json",
    "ADMIN_ADDR": "127.0.0.1:0",
    "JWT_AUDIENCE": "latchkey",
    "SERVICE_TOKEN": SERVICE_TOKEN,
    # The gateway's.
    "TRUSTED_PROXIES": "127.0.0.1/32",
}


def auth_service(work, ports, **settings):
    environment = {
        **COMMON,
        "HTTP_ADDR": f"127.0.0.1:{ports.auth}",
        "GRPC_ADDR": f"127.0.0.1:{ports.auth_grpc}",
        "DATABASE_URL": f"sqlite://{work}/auth.db",
        "KEY_ENCRYPTION_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        "BCRYPT_COST": "10",
        **settings,
    }
    return Process("auth-service", [BINARIES / "auth-service"], work / "auth.log", environment)


def user_service(work, ports, **settings):
    environment = {
        **COMMON,
        "HTTP_ADDR": f"127.0.0.1:{ports.user}",
        "GRPC_ADDR": f"127.0.0.1:{ports.user_grpc}",
        "DATABASE_URL": f"sqlite://{work}/user.db",
        "JWKS_URL": f"http://127.0.0.1:{ports.auth}/.well-known/jwks.json",
        "AUTH_GRPC_URL": f"http://127.0.0.1:{ports.auth_grpc}",
        "JWT_ISSUER": "http://localhost:3000",
        **settings,
    }
    return Process("user-service", [BINARIES / "user-service"], work / "user.log", environment)


def envoy(work, ports, descriptors, issuer="http://localhost:3000", environment=None):
    """Envoy with the configuration as it is, but for addresses, one path and the issuer."""
    text = (GATEWAY / "envoy.yaml").read_text()
    changes = {
        "{address: 0.0.0.0, port_value: 8080}": f"{{address: 127.0.0.1, port_value: {ports.gateway}}}",
        "port_value: 9901": f"port_value: {ports.admin}",
        "/etc/envoy/latchkey.binpb": str(descriptors),
        "issuer: http://localhost:3000": f"issuer: {issuer}",
    }
    for service, port, actual in [
        ("auth-service", 3000, ports.auth),
        ("auth-service", 50051, ports.auth_grpc),
        ("user-service", 4000, ports.user),
        ("user-service", 50052, ports.user_grpc),
    ]:
        old = f"{{address: {service}, port_value: {port}}}"
        changes[old] = f"{{address: 127.0.0.1, port_value: {actual}}}"
    for old, new in changes.items():
        if old not in text:
            raise AssertionError(f"envoy.yaml has no {old}")
        text = text.replace(old, new)
    file = work / "envoy.yaml"
    file.write_text(text)
    command = [shutil.which("envoy"), "-c", file, "-l", "warning", "--concurrency", "1"]
    command += ["--disable-hot-restart", "--file-flush-interval-msec", "50"]
    process = Process("envoy", command, work / "envoy.log", environment)
    until(lambda: answers(ports.gateway) or process.process.poll(), 20, process.text)
    if process.process.poll() is not None:
        raise AssertionError(process.text())
    return process


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def ready(port):
    with contextlib.suppress(OSError):
        return request(port, "GET", "/readyz").status == 200
    return False


class KeySet:
    """Serves a JWKS."""

    def __init__(self, jwks):
        body = json.dumps(jwks).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
