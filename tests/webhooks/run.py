"""Receives webhooks of the auth service and verifies them with the library of Standard Webhooks."""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PREVIOUS = "whsec_" + base64.b64encode(bytes(range(100, 124))).decode()
FOREIGN = "whsec_" + base64.b64encode(bytes(range(200, 232))).decode()
PASSWORD = "correct horse battery staple"

failures = 0


def check(what, right, told=""):
    global failures
    failures += not right
    print(f"{'ok  ' if right else 'FAIL'}  {what}", flush=True)
    if not right and told != "":
        print(f"      {told}", flush=True)


class Receiver(ThreadingHTTPServer):
    """Keeps what comes, and answers with `status`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 204
        self.came = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def wait(self, number):
        end = time.monotonic() + 30
        while len(self.came) < number and time.monotonic() < end:
            time.sleep(0.05)
        return list(self.came)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.came.append((dict(self.headers), body))
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def is_verified(secret, headers, body):
    try:
        return Webhook(secret).verify(body, headers) == json.loads(body)
    except WebhookVerificationError:
        return False


class Service:
    """A running auth service in `folder` that tells `receiver`."""

    def __init__(self, binary, folder, receiver):
        self.binary, self.folder = binary, folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": f"sqlite://{folder}/auth.db",
            "KEY_ENCRYPTION_KEY": base64.b64encode(bytes(range(32))).decode(),
            "JWT_ALGORITHM": "ES256",
            "BCRYPT_COST": "10",
            "HTTP_ADDR": "127.0.0.1:0", "GRPC_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "",
            "LOG_FORMAT": "json",
            "WEBHOOK_URL": f"http://127.0.0.1:{receiver.server_port}/hook",
            "WEBHOOK_SECRET": SECRET,
            "WEBHOOK_SECRET_PREVIOUS": PREVIOUS,
        }
        self.log = Path(folder, "log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen([binary], env=self.environment, cwd=folder, stdout=log,
                                            stderr=subprocess.STDOUT)
        self.base = None
        end = time.monotonic() + 30
        while self.base is None and time.monotonic() < end:
            time.sleep(0.1)
            for line in self.log.read_text().splitlines():
                found = re.search(r'"http(?:_addr(?:ess)?)?":"(127\.0\.0\.1:\d+)"', line)
                if found:
                    self.base = f"http://{found[1]}"
        if self.base is None:
            sys.exit(f"the service does not start:\n{self.log.read_text()}")

    def post(self, path, body):
        request = urllib.request.Request(self.base + path, json.dumps(body).encode(),
                                         {"content-type": "application/json"})
        end = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                # Not ready yet.
                if error.code != 503 or time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def command(self, *arguments):
        ran = subprocess.run([self.binary, *arguments], env=self.environment, cwd=self.folder,
                             capture_output=True, text=True, timeout=60)
        return ran.returncode, ran.stdout, ran.stderr

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=40)


def run(binary, folder):
    receiver = Receiver()
    service = Service(binary, folder, receiver)
    try:
        account = service.post("/auth/register", {"email": "a@example.com", "password": PASSWORD})["id"]
        login = {"email": "a@example.com", "password": PASSWORD, "offline_access": True}
        service.post("/auth/login", login)
        came = receiver.wait(3)
        types = [json.loads(body)["type"] for _, body in came]
        wanted = ["account.registered", "login.new_network", "session.begun"]
        check("each event is told, in order", types == wanted, types)
        for secret, what in ((SECRET, "the secret"), (PREVIOUS, "the previous secret")):
            check(f"the library verifies each with {what}",
                  all(is_verified(secret, headers, body) for headers, body in came))
        headers, body = came[0]
        check("it refuses another secret", not is_verified(FOREIGN, headers, body))
        check("it refuses another body", not is_verified(SECRET, headers, body.replace(b"anony", b"other")))
        check("it refuses the id of another one",
              not is_verified(SECRET, {**headers, "webhook-id": came[1][0]["webhook-id"]}, body))
        check("they are of the account", all(json.loads(body)["data"]["account"] == account
                                            for _, body in came))

        receiver.status = 500
        token = service.post("/auth/login", login)["access_token"]
        receiver.wait(4)
        status, listed, _ = service.command("webhooks", "list", "--json")
        entries = [json.loads(line) for line in listed.splitlines()]
        check("what is not taken is listed", status == 0 and len(entries) == 1, listed)
        check("with the reason", bool(entries) and "500" in (entries[0]["last_failure"] or ""), entries)
        receiver.status = 200
        status, printed, told = service.command("webhooks", "retry")
        check("an operator can have it sent again", status == 0, printed + told)
        came = receiver.wait(5)
        check("a copy has the same id and body, and is verified",
              came[4][0]["webhook-id"] == came[3][0]["webhook-id"] and came[4][1] == came[3][1]
              and is_verified(SECRET, *came[4]))

        status, listed, told = service.command("accounts", "events", "a@example.com", "--json")
        events = [json.loads(line) for line in listed.splitlines()]
        check("the events of the account are the webhooks", status == 0 and
              [event["id"] for event in events] == [headers["webhook-id"] for headers, _ in came[:4]], told)
        check("from a cursor on", service.command(
            "accounts", "events", "--json", "--after=" + events[1]["cursor"])[1].splitlines()
            == listed.splitlines()[2:])
        everything = service.log.read_text() + listed + "".join(body.decode() for _, body in came)
        check("no secret, password, token or email is told or logged",
              not any(secret in everything for secret in
                      (SECRET, PREVIOUS, PASSWORD, "a@example.com", token)))
    finally:
        status = service.stop()
    check("the service stops in order", status == 0, status)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run(os.path.abspath(sys.argv[1]), folder)
    sys.exit(failures > 0)
