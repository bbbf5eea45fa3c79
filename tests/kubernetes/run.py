"""Runs deploy/kubernetes on a node: run.py WORK POSTGRES_BIN. scripts/test-kubernetes starts it."""

import base64
import http.client
import json
import os
import pathlib
import secrets
import sys
import threading
import time
from collections import Counter

from cluster import Cluster, image, run, until

BINARIES = pathlib.Path(os.environ["LATCHKEY_BIN"])
SPACE = ["--namespace", "latchkey"]
PASSWORD = "correct horse battery staple"
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{'ok   ' if ok else 'FAIL '} {name}", flush=True)
    if not ok:
        for line in str(detail).splitlines()[-25:]:
            print(f"      {line[:300]}", flush=True)


def kubectl(*arguments, **options):
    return run("kubectl", *SPACE, *arguments, **options)


def address(service):
    return json.loads(kubectl("get", "service", f"latchkey-{service}", "-o", "json"))["spec"]["clusterIP"]


def ask(host, port, method, path, body=None, token=None, timeout=15):
    """One request on a connection of its own, through the Service."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    fields = {"content-type": "application/json"} if body else {}
    fields |= {"authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request(method, path, json.dumps(body) if body else None, fields)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Load:
    """Registers, logs in, reads and writes all the time, and keeps what has failed."""

    def __init__(self, auth, user, threads=3):
        self.auth, self.user = auth, user
        self.answered, self.failures, self.stop = Counter(), [], threading.Event()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def work(self):
        while not self.stop.is_set():
            body = {"email": f"{secrets.token_hex(8)}@example.com", "password": PASSWORD}
            created = self.one("register", 201, self.auth, 3000, "POST", "/auth/register", body)
            login = created and self.one("log in", 200, self.auth, 3000, "POST", "/auth/login", body)
            if not login:
                continue
            token, path = login["access_token"], f"/users/{created['id']}"
            for number in range(10):
                self.one("read", 200, self.user, 4000, "GET", path, None, token)
                self.one("write", 200, self.user, 4000, "PUT", path, {"name": f"n{number}"}, token)

    def one(self, name, wanted, *request):
        try:
            status, text = ask(*request)
        except OSError as error:
            status, text = 0, repr(error)
        if status != wanted:
            self.failures.append((name, status, text[:200], time.strftime("%T")))
            return None
        self.answered[name] += 1
        return json.loads(text)


def told(load):
    return f"{sum(load.answered.values())} requests, {len(load.failures)} failed"


def install(cluster):
    for service in ("auth-service", "user-service"):
        program = f"/usr/local/bin/{service}"
        for tag in ("v1", "v2"):
            file = cluster.work / "image.tar"
            image(file, f"latchkey.test/{service}:{tag}", {program: str(BINARIES / service)}, [program])
            cluster.load(file)
    run("kubectl", "create", "namespace", "latchkey")
    run("kubectl", "label", "namespace", "latchkey", "pod-security.kubernetes.io/enforce=restricted")
    database = "postgres://postgres@10.200.0.1:5432"
    key = base64.b64encode(os.urandom(32)).decode()
    kubectl("create", "secret", "generic", "shared", f"--from-literal=service-token={secrets.token_hex(32)}")
    kubectl("create", "secret", "generic", "auth", f"--from-literal=database-url={database}/auth", f"--from-literal=key-encryption-key={key}")
    kubectl("create", "secret", "generic", "user", f"--from-literal=database-url={database}/users")
    (cluster.work / "values.yaml").write_text(
        json.dumps(
            {
                "issuer": "http://localhost:3000",
                "serviceTokenSecret": "shared",
                "auth": {
                    "image": {"repository": "latchkey.test/auth-service", "tag": "v1", "pullPolicy": "Never"},
                    "secret": "auth",
                    "autoscaling": {"enabled": False},
                    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                    "env": {"BCRYPT_COST": 10, "LOGINS_PER_MINUTE": 0, "REGISTRATIONS_PER_MINUTE": 0},
                },
                "user": {
                    "image": {"repository": "latchkey.test/user-service", "tag": "v1", "pullPolicy": "Never"},
                    "secret": "user",
                    "autoscaling": {"enabled": False},
                    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                },
            }
        )
    )


def helm(*arguments, **options):
    return run("helm", *arguments, *SPACE, **options)


def upgrade(cluster, *arguments, **options):
    command = ["upgrade", "--install", "latchkey", "deploy/kubernetes", "--values", cluster.work / "values.yaml"]
    return helm(*command, "--wait", "--timeout", "240s", *arguments, **options)


def state():
    return kubectl("get", "pods,jobs,events", "-o", "wide", check=False) + kubectl(
        "logs", "-l", "app.kubernetes.io/part-of=latchkey", "--tail=8", check=False
    )


def main():
    work, postgres_bin = pathlib.Path(sys.argv[1]), sys.argv[2]
    cluster = Cluster(work, postgres_bin)
    cluster.start()
    print(run("kubectl", "get", "nodes", "-o", "wide"))
    install(cluster)
    began = time.monotonic()
    try:
        upgrade(cluster)
    except AssertionError as error:
        print(error)
        print(state()[-6000:])
        raise
    check(f"helm install --wait: {time.monotonic() - began:.0f} s", True)
    output = helm("test", "latchkey", check=False)
    check("helm test", output.count("Succeeded") >= 2, state() + output)
    auth, user = address("auth-service"), address("user-service")

    with Load(auth, user) as load:
        time.sleep(3)
        began = time.monotonic()
        try:
            upgrade(cluster, "--set", "auth.image.tag=v2", "--set", "user.image.tag=v2")
        except AssertionError as error:
            print(state()[-5000:])
            raise error
        took = time.monotonic() - began
        time.sleep(3)
    check(f"an upgrade of both services in {took:.0f} s under load: {told(load)}", load.answered["write"] > 50 and not load.failures, "\n".join(map(str, load.failures)))

    before = kubectl("get", "deployments", "-o", "jsonpath={.items[*].spec.template.spec.containers[0].image}")
    with Load(auth, user) as load:
        output = helm(
            "upgrade", "latchkey", "deploy/kubernetes", "--values", work / "values.yaml", "--set", "auth.image.tag=v2",
            "--set", "user.image.tag=none", "--set", "migrations.activeDeadlineSeconds=20", "--wait", "--timeout", "60s",
            "--rollback-on-failure", check=False,
        )
        after = kubectl("get", "deployments", "-o", "jsonpath={.items[*].spec.template.spec.containers[0].image}")
    check(f"a wrong image is rolled back, and nobody notices: {told(load)}", before == after and not load.failures, output + "\n".join(map(str, load.failures)))

    process = next(
        int(it.name) for it in pathlib.Path("/proc").iterdir()
        if it.name.isdigit() and (cmdline := (it / "cmdline").read_bytes() if (it / "cmdline").exists() else b"").startswith(b"/usr/local/bin/user-service")
    )
    os.kill(process, 9)
    until(lambda: kubectl("get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}").split().count("1") == 1, 60, state)
    until(lambda: ask(user, 4000, "GET", "/readyz")[0] == 200, 60, state)
    kubectl("rollout", "status", "deployment/latchkey-user-service", "--timeout=60s")
    check("a process killed -9 is started again", True)

    # One node: the pods that a drain takes have no other place, so the budget holds the second one back.
    evicted = run("kubectl", "drain", "node", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=15s", check=False)
    left = kubectl("get", "pods", "-o", "json")
    ready = Counter(
        item["metadata"]["labels"]["app.kubernetes.io/name"]
        for item in json.loads(left)["items"]
        if any(it["type"] == "Ready" and it["status"] == "True" for it in item["status"].get("conditions", []))
    )
    check("a drain never takes the last pod of a service", min(ready.get("auth-service", 0), ready.get("user-service", 0)) >= 1, f"{ready}\n{evicted}")
    run("kubectl", "uncordon", "node")
    kubectl("rollout", "status", "deployment", "--timeout=120s")
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    try:
        status = main()
    except AssertionError as error:
        print(f"FAIL  {error}\n{passed} passed, {failed + 1} failed")
        status = 1
    sys.exit(status)
