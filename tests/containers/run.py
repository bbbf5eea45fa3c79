"""Runs docker-compose.yml whole and looks at what it makes: run.py STAND_INS DEBIAN

scripts/test-containers starts the engine, builds the images and runs this in a network namespace of its own.
"""

import base64
import json
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

STAND_INS, DEBIAN = sys.argv[1:]
COMPOSE = ["docker-compose", "--file", "docker-compose.yml", "--file", STAND_INS]
SERVICES = {"auth-service": (3000, 9464), "user-service": (4000, 9465)}
PASSWORD = "correct horse battery staple"
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{'ok   ' if ok else 'FAIL '} {name}", flush=True)
    if not ok:
        for line in str(detail).splitlines()[-20:]:
            print(f"      {line[:400]}", flush=True)


def run(*command, status=0):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if status is not None and done.returncode != status:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def docker(*arguments, status=0):
    return run("/usr/bin/docker", *arguments, status=status)


def compose(*arguments):
    return run(*COMPOSE, *arguments)


def container(service):
    return compose("ps", "--quiet", "--all", service).strip()


def inspect(what):
    return json.loads(docker("inspect", what))[0]


def request(method, url, body=None, token=None):
    """Returns status and body, as the three curl commands of the README ask."""
    fields = {"content-type": "application/json"} if body else {}
    fields |= {"authorization": f"Bearer {token}"} if token else {}
    data = json.dumps(body).encode() if body else None
    asked = urllib.request.Request(url, data, fields, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}\n{compose('logs', '--tail', '15')}")
        time.sleep(0.3)


def ready():
    return all(
        request("GET", f"http://127.0.0.1:{admin}/readyz")[0] == 200 for _, admin in SERVICES.values()
    )


def healthy():
    return all(inspect(container(it))["State"].get("Health", {}).get("Status") == "healthy" for it in SERVICES)


def up():
    began = time.monotonic()
    compose("up", "--detach", "--no-build")
    until(lambda: ready() and healthy(), 120, "both services are ready and healthy")
    return time.monotonic() - began


def profile(token):
    """The profile of a token's owner."""
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return request("GET", f"http://127.0.0.1:4000/users/{claims['sub']}", token=token)


def walk(email):
    """The three curl commands."""
    body = {"email": email, "password": PASSWORD}
    status, text = request("POST", "http://127.0.0.1:3000/auth/register", body)
    check(f"register {email}", status in (201, 409), text)
    status, text = request("POST", "http://127.0.0.1:3000/auth/login", body)
    check("log in", status == 200, text)
    token = json.loads(text)["access_token"]
    status, text = profile(token)
    check("read one's profile", status == 200 and email in text, text)
    return json.loads(text).get("id"), token


def images():
    for service in SERVICES:
        image = inspect(f"latchkey/{service}")
        config = image["Config"]
        labels = config["Labels"]
        check(f"{service}: labels", labels.get("org.opencontainers.image.title") == service, labels)
        check(f"{service}: user", config["User"] == "65532:65532", config["User"])
        test = config["Healthcheck"]["Test"]
        check(f"{service}: its health is its liveness", test[-2:] == ["healthcheck", "--live"], test)
        size, base = image["Size"] / 1e6, inspect(DEBIAN)["Size"] / 1e6
        check(f"{service}: {size - base:.0f} MB on a base of {base:.0f} MB", size - base < 60)
        bill = docker("run", "--rm", "--network", "none", "--entrypoint", "cat", f"latchkey/{service}", f"/usr/share/doc/{service}/sbom.cdx.json")
        names = {item["name"] for item in json.loads(bill)["components"]}
        check(f"{service}: a bill of materials of {len(names)} crates", {"tokio", "sqlx", "rustls"} <= names)
        key = "KEY_ENCRYPTION_KEY=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
        output = docker("run", "--rm", "--network", "none", "--env", key, f"latchkey/{service}", status=None)
        check(f"{service}: has no default database, and says so", "DATABASE_URL" in output and "listening" not in output, output)


def confined():
    for service in ["auth-postgres", "user-postgres", *SERVICES]:
        its = inspect(container(service))
        host, process = its["HostConfig"], its["State"]["Pid"]
        status = dict(
            line.split(":\t", 1)
            for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
            if ":\t" in line
        )
        check(f"{service}: its root file system is read-only", host["ReadonlyRootfs"] is True, host)
        check(f"{service}: is not root", status["Uid"].split()[0] in ("65532", "70"), status["Uid"])
        nothing = all(int(status[it], 16) == 0 for it in ("CapEff", "CapPrm", "CapBnd", "CapInh"))
        check(f"{service}: has no capability, and gains none", nothing and status["NoNewPrivs"] == "1", status)
        secret = [it for it in its["Config"]["Env"] if "postgres://" in it or "SECRET" in it]
        check(f"{service}: no secret in its environment", not secret, secret)
    for service in SERVICES:
        output = docker("exec", container(service), "sh", "-c", "touch /x /var/lib/latchkey/x /usr/x", status=None)
        check(f"{service}: nothing can be written", output.count("Read-only file system") == 3, output)
    listing = docker(
        "run", "--rm", "--network", "none", "--volume", "latchkey_auth-service-secrets:/s:ro", DEBIAN, "ls", "-ln", "/s"
    )
    modes = {line.split()[0] + " " + line.split()[2] for line in listing.splitlines()[1:]}
    check("secrets are for the user of their service alone", modes == {"-r-------- 65532"}, listing)


def operators():
    for service, (http, admin) in SERVICES.items():
        status, text = request("GET", f"http://127.0.0.1:{admin}/metrics")
        check(f"{service}: metrics", status == 200 and "process_start_time_seconds" in text, text[:300])
        status, _ = request("GET", f"http://127.0.0.1:{http}/metrics")
        check(f"{service}: no metrics where clients are", status == 404)


def database_away():
    compose("stop", "auth-postgres")
    name = container("auth-service")
    until(lambda: request("GET", "http://127.0.0.1:9464/readyz")[0] == 503, 30, "not ready")
    docker("exec", name, "/usr/local/bin/auth-service", "healthcheck", "--live")
    output = docker("exec", name, "/usr/local/bin/auth-service", "healthcheck", status=None)
    check("the database away: live, not ready, and the check is named", "database" in output, output)
    check("the database away: the container stays healthy", healthy())
    compose("start", "auth-postgres")
    until(ready, 60, "ready again")


def keys():
    text = request("GET", "http://127.0.0.1:3000/.well-known/jwks.json")[1]
    return [key["kid"] for key in json.loads(text)["keys"]]


def main():
    print(f"      started in {up():.1f} s")
    images()
    first, token = walk("ada@example.com")
    confined()
    operators()
    database_away()
    before = keys()
    compose("restart", "--timeout", "35")
    until(lambda: ready() and healthy(), 120, "ready after a restart")
    check("after a restart the token is still good", profile(token)[0] == 200)
    codes = [inspect(container(it))["State"]["ExitCode"] for it in SERVICES]
    check("after a restart the account is the same", walk("ada@example.com")[0] == first)
    compose("down", "--timeout", "35")
    print(f"      started anew in {up():.1f} s")
    check("a second start has the same data", walk("ada@example.com")[0] == first)
    check("a second start has the same keys", keys() == before, keys())
    logs = compose("logs")
    check("no secret in the logs", PASSWORD not in logs and token not in logs and "postgres://auth_service:" not in logs)
    check("nothing has ended in failure", codes == [0, 0], codes)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        print(f"FAIL  {error}")
        print(f"{passed} passed, {failed + 1} failed")
        sys.exit(1)
