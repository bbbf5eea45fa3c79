"""The tests of scripts/test-telemetry, which finds the programs and runs this:

    telemetry.py LATCHKEY COLLECTOR

with the paths of the two programs; prometheus, promtool and curl are on the PATH. Everything runs on
free ports of 127.0.0.1, in a temporary folder that is deleted at the end.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
ALERTS_TEST = ROOT / "deploy/prometheus/alerts_test.yml"
PROMETHEUS = ROOT / "deploy/prometheus/prometheus.yml"
DASHBOARD = ROOT / "deploy/grafana/latchkey.json"
OPERATIONS = ROOT / "docs/operations.md"

# The targets in the example configuration.
STANDARD = {"auth-service": "127.0.0.1:9464", "user-service": "127.0.0.1:9465"}
# Series that Prometheus creates itself.
OF_PROMETHEUS = {"up", "ALERTS"}
# OpenTelemetry defines this name for a gauge, but promtool reserves the suffix for histograms.
LINT = {"db_client_connection_count"}
# The suffixes that OpenMetrics adds to the names of these metric types.
ENDINGS = {"counter": "_total", "info": "_info"}
DURATIONS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
# The time limit of a request that hashes no password. It is generous, because this machine may be
# busy. If a request waited for an exporter, it would take the exporter's timeout of 10 s.
SLOW = 2.0

passed = failed = 0


def check(name, ok, detail=""):
    """Counts one result and tells it."""
    global passed, failed
    if ok:
        passed += 1
        print(f"ok    {name}", flush=True)
    else:
        failed += 1
        print(f"FAIL  {name}", flush=True)
        for line in str(detail).strip().splitlines()[:40]:
            print(f"      {line}", flush=True)
    return ok


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
        return grpc(self.latchkey.user_grpc, "/user.v1.UserService/GetUser", field(1, self.id),
                    headers)

    def delete(self, headers=()):
        return request("DELETE", self.latchkey.user_http, f"/users/{self.id}", None,
                       self.bearer(headers))[0]


# ---------------------------------------------------------------------------------------- the files


def test_files():
    for arguments in (["check", "rules", ALERTS], ["test", "rules", ALERTS_TEST],
                      ["check", "config", PROMETHEUS]):
        ran = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
        name = " ".join([*arguments[:-1], arguments[-1].name])
        check(f"promtool {name}", ran.returncode == 0, ran.stdout + ran.stderr)

    alerts = re.split(r"^ +- alert: ", ALERTS.read_text(), flags=re.M)[1:]
    names = [alert.split("\n", 1)[0] for alert in alerts]
    headings = {"#" + title.lower().replace(" ", "-")
                for title in re.findall(r"^#+ (.+)$", OPERATIONS.read_text(), re.M)}
    wrong = []
    for name, alert in zip(names, alerts):
        if not re.search(r"severity: (critical|warning)$", alert, re.M):
            wrong.append(f"{name}: severity")
        if not (re.search(r"summary: .", alert) and re.search(r"description: .", alert)):
            wrong.append(f"{name}: summary or description")
        runbook = re.search(r"runbook_url: docs/operations\.md(#\S+)", alert)
        if not runbook or runbook[1] != "#" + name.lower() or runbook[1] not in headings:
            wrong.append(f"{name}: runbook_url leads to no heading of docs/operations.md")
    check(f"each of {len(names)} alerts has a severity, a text and a section in the docs",
          names and not wrong, "\n".join(wrong))
    described = set(re.findall(r"^### (Latchkey\w+)$", OPERATIONS.read_text(), re.M))
    check("the docs describe no other alert", described == set(names), described ^ set(names))

    tests = ALERTS_TEST.read_text()
    fires = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n +- exp_labels", tests))
    quiet = set(re.findall(r"alertname: (\w+)(?:\n +|, )exp_alerts: \[\]", tests))
    check("each alert has a test in which it fires, and one in which it does not",
          fires == quiet == set(names), (fires ^ set(names)) | (quiet ^ set(names)))
    return len(names)


def test_dashboard_file():
    """What Grafana needs of the file. Returns the dashboard's queries."""
    dashboard = json.loads(DASHBOARD.read_text())
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    check("the dashboard's data source is a variable",
          variables.get("datasource", {}).get("type") == "datasource", variables)
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    wrong, queries, places = [], [], {}
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        for cell in [(x, y) for x in range(at["x"], at["x"] + at["w"])
                     for y in range(at["y"], at["y"] + at["h"])]:
            other = places.setdefault(cell, panel["title"])
            if other != panel["title"] or cell[0] >= 24:
                wrong.append(f"{panel['title']} is where {other} is, or off the grid")
                break
    for panel in panels:
        title = panel["title"]
        if not panel.get("description") or panel["datasource"] != source:
            wrong.append(f"{title}: no description, or a data source of its own")
        for target in panel["targets"]:
            if target["datasource"] != source or not target["expr"]:
                wrong.append(f"{title}: a target without query, or with a data source of its own")
            queries.append((title, target["expr"]))
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids):
        wrong.append("two panels have one id")
    check(f"the dashboard's {len(panels)} panels are in order", panels and not wrong,
          "\n".join(wrong))
    return queries


# ------------------------------------------------------------------------------ metrics and queries


def samples(text):
    """The samples of an exposition: their names and labels."""
    found = []
    for line in text.splitlines():
        sample = re.match(r'(\w+)(?:\{(.*)\})? [^ ]+$', line)
        if sample:
            found.append((sample[1], dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', sample[2] or ""))))
    return found


def families(text):
    return dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))


def selectors(expression):
    """What a query asks for: pairs of a metric's name and matchers (label, operator, value)."""
    found = []
    rest = expression
    for match in re.finditer(r'([a-zA-Z_:][\w:]*)\s*\{((?:"[^"]*"|[^"}])*)\}', expression):
        matchers = re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', match[2])
        found.append((match[1], matchers))
        rest = rest.replace(match[0], " ")
    rest = re.sub(r'"[^"]*"', " ", rest)
    rest = re.sub(r"\[[^\]]*\]", " ", rest)
    rest = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", rest)
    for name in re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", rest):
        if name not in {"and", "or", "unless", "bool", "offset"}:
            found.append((name, []))
    return found


def groupings(expression):
    """The labels that a query groups by."""
    lists = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression)
    return {label.strip() for text in lists for label in text.split(",") if label.strip()}


def matches(labels, matchers):
    for label, operator, value in matchers:
        actual = labels.get(label, "")
        same = actual == value if operator in ("=", "!=") else re.fullmatch(value, actual)
        if bool(same) != (operator in ("=", "=~")):
            return False
    return True


def test_queries(kind, queries, series):
    """Every selector of the queries must find series, and every label that they group by exist."""
    wrong = []
    for name, expression in queries:
        # Rules for metrics that do not occur in this run are tested with synthetic series
        # (alerts_test.yml).
        if all(metric in ABSENT for metric, _ in selectors(expression)):
            continue
        own = {label for metric, labels in series for label in labels
               if any(metric == asked for asked, _ in selectors(expression))}
        for metric, matchers in selectors(expression):
            if metric in OF_PROMETHEUS:
                own |= {"job", "instance", "alertname", "severity"}
            elif not any(metric == known and matches(labels, matchers) for known, labels in series):
                wrong.append(f"{name}: no series for {metric} {matchers}")
        for label in groupings(expression) - own:
            wrong.append(f"{name}: no series has the label {label}")
    check(f"every series that {kind} for exists", queries and not wrong, "\n".join(wrong))


def make_traffic(latchkey, person):
    """One of each kind of answer. Returns what went wrong."""
    outcomes = [
        ("register", person.register(), 201),
        ("login", person.login(), 200),
        ("read", person.read(), 200),
        ("rename", person.rename(), 200),
        ("read without a token", request("GET", latchkey.user_http, f"/users/{person.id}")[0], 401),
        ("a token in the query", person.read_by_query(), 400),
        ("a session", person.stay_logged_in(), 200),
        ("unknown path", request("GET", latchkey.auth_http, f"/{person.path}")[0], 404),
        ("gRPC login", person.grpc_login(), 0),
        ("gRPC read", person.grpc_read(person.bearer()), 0),
        ("gRPC read without a token", person.grpc_read(), 16),
        ("gRPC health", grpc(latchkey.auth_grpc, "/grpc.health.v1.Health/Check"), 0),
        ("gRPC health", grpc(latchkey.user_grpc, "/grpc.health.v1.Health/Check"), 0),
    ]
    return [f"{what}: {got} instead of {expected}" for what, got, expected in outcomes
            if got != expected]


def throttle(latchkey):
    """Guesses at an account until that is refused."""
    victim = Person(latchkey)
    return [victim.login(password=victim.wrong) for _ in range(4)][-1]


def overload(latchkey):
    """More logins at once than the one hashing thread can do in a second, on both edges. How many
    these are depends on the build and the machine, so it tries with more and more."""
    def refused(count):
        people = [Person(latchkey) for _ in range(count)]
        threads = [threading.Thread(target=person.login) for person in people]
        threads += [threading.Thread(target=person.grpc_login) for person in people[:8]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        text = scrape(latchkey)["auth-service"]
        return (re.search(r'route="/auth/login",http_response_status_code="503"', text)
                and re.search(r'AuthService/Login",rpc_response_status_code="UNAVAILABLE"', text))
    return any(refused(count) for count in (40, 80, 160, 240))


def leave(latchkey):
    """Does not wait for the answer to a login, which takes longer than this."""
    request("POST", latchkey.auth_http, "/auth/login", Person(latchkey).credentials(), timeout=0.02)
    return until(lambda: 'route="/auth/login",http_response_status_code="499"' in
                 scrape(latchkey)["auth-service"], 5)


# OTLP exports a sum only after the first count, and nothing here requests a mail.
NOT_COUNTED = {"auth_mail_outbox_attempts"}
# Metrics that only exist with TLS, a look-up of breached passwords, or webhooks.
ABSENT = {"auth_breach_checks_total", "tls_certificate_end_time_seconds", "auth_webhook_outbox_depth",
          "auth_webhook_outbox_age_seconds", "auth_webhook_outbox_attempts_total"}


def scrape(latchkey):
    return {job: request("GET", at, "/metrics")[1] for job, at in latchkey.metrics.items()}


def test_exposition(texts):
    for job, text in texts.items():
        # promtool reads the older text format, which keeps the suffixes in the names and has no info
        # type.
        older = text
        for name, kind in families(text).items():
            older = re.sub(rf"^# (HELP|TYPE) {name} ", rf"# \1 {name}{ENDINGS.get(kind, '')} ", older,
                           flags=re.M)
        older = older.replace("_info info\n", "_info gauge\n")
        ran = subprocess.run(["promtool", "check", "metrics"], input=older, capture_output=True,
                             text=True)
        complaints = [line for line in (ran.stdout + ran.stderr).splitlines()
                      if line.split(" ", 1)[0] not in LINT]
        check(f"promtool check metrics of {job}", not complaints, "\n".join(complaints))

    exposed = {}
    for text in texts.values():
        types = families(text)
        for name, kind in types.items():
            exposed.setdefault(name + ENDINGS.get(kind, ""), set())
        for name, labels in samples(text):
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            exposed[name if name in exposed else family] |= set(labels) - {"le"}
    section = re.search(r"^## Metrics$.*?(?=^## )", OPERATIONS.read_text(), re.M | re.S)[0]
    documented = {}
    for name, labels in re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.M):
        # A label with its values is followed by a colon.
        documented[name] = set(re.findall(r"`(\w+)`", labels.split(":")[0]))
    for absent in ABSENT - exposed.keys():
        documented.pop(absent, None)
    check("the docs list every metric with its labels, and no other", exposed == documented,
          "\n".join(f"{name}: docs {documented.get(name)}, service {exposed.get(name)}"
                    for name in sorted(exposed.keys() | documented.keys())
                    if exposed.get(name) != documented.get(name)))


# ---------------------------------------------------------------------------------------- Prometheus


class Prometheus(Program):
    """The example configuration with other addresses and shorter intervals."""

    def __init__(self, work, latchkey):
        config = PROMETHEUS.read_text()
        for job, address in latchkey.metrics.items():
            config = config.replace(STANDARD[job], address)
        config = re.sub(r"(scrape_interval|evaluation_interval): \w+", r"\1: 1s", config)
        config = config.replace("alerts.yml", str(ALERTS))
        (work / "prometheus.yml").write_text(config)
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        super().__init__(work, "prometheus", [
            "prometheus", f"--config.file={work}/prometheus.yml",
            f"--storage.tsdb.path={work}/prometheus", f"--web.listen-address={self.address}"])

    def get(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        status, text = request("GET", self.address, f"/api/v1/{path}?{query}")
        answer = json.loads(text) if status in (200, 400, 422) else {"error": f"{status} {text}"}
        return answer.get("data"), answer.get("error", "")

    def series(self, query):
        data, error = self.get("query", query=query)
        return (data or {}).get("result", []), error

    def up(self):
        targets = ((self.get("targets")[0] or {}).get("activeTargets")) or []
        return {target["labels"]["job"] for target in targets if target["health"] == "up"}

    def rules(self):
        groups = (self.get("rules")[0] or {}).get("groups") or []
        return [rule for group in groups for rule in group["rules"]]

    def alerts(self):
        return [(alert["labels"]["alertname"], alert["labels"].get("job"))
                for alert in (self.get("alerts")[0] or {}).get("alerts", [])]


def test_prometheus(work, latchkey, person, alert_count, queries):
    texts = scrape(latchkey)
    series = [(name, {**labels, "job": job, "instance": latchkey.metrics[job]})
              for job, text in texts.items() for name, labels in samples(text)]
    with Prometheus(work, latchkey) as prometheus:
        up = until(lambda: prometheus.up() == set(STANDARD))
        if not check("Prometheus scrapes both services", up,
                     f"{prometheus.get('targets')}\n{prometheus.text()[-2000:]}"):
            return
        # Scrape several times with requests in between, so that rates can be computed.
        for _ in range(12):
            make_traffic_again(latchkey, person)
            time.sleep(1)
        rules = until(lambda: (lambda found: found if len(found) == alert_count and all(
            rule["health"] == "ok" for rule in found) else None)(prometheus.rules()))
        check(f"it evaluates all {alert_count} alerts", rules,
              [(rule["name"], rule["health"], rule.get("lastError"))
               for rule in prometheus.rules()])
        rule_queries = [(rule["name"], rule["query"]) for rule in prometheus.rules()]
        test_queries("the alerts ask", rule_queries, series)

        filled = [(title, expression.replace("$__rate_interval", "30s")
                   .replace("$instance", ".*")) for title, expression in queries]
        test_queries("the dashboard asks", filled, series)
        wrong = []
        for title, expression in filled:
            result, error = prometheus.series(expression)
            if error or not result:
                wrong.append(f"{title}: {error or 'no data'}: {expression}")
        check(f"the dashboard's {len(filled)} queries return data", not wrong, "\n".join(wrong))

        served, _ = prometheus.series(
            'sum(rate(http_server_request_duration_seconds_count{http_route="/users/{id}"}[30s]))')
        check("it sees requests a second", served and float(served[0]["value"][1]) > 0, served)
        ready, _ = prometheus.series("health_check_status == 1")
        checks = [labels for name, labels in series if name == "health_check_status"]
        check("it sees every check pass", checks and len(ready) == len(checks), ready)
        alerts = prometheus.alerts()
        check("no alert is firing or pending in a healthy system", not alerts, alerts)

        latchkey.stop()
        down = {("LatchkeyDown", job) for job in STANDARD}
        check("when the services stop, LatchkeyDown is pending for both",
              until(lambda: down <= set(prometheus.alerts())), prometheus.alerts())


def make_traffic_again(latchkey, person):
    person.read()
    person.rename()
    person.grpc_read(person.bearer())
    person.login()
    request("GET", latchkey.auth_http, "/livez")


def test_metrics(work, alert_count, queries):
    # One thread and a short queue timeout, so that a few logins cause overload.
    with Latchkey(work, "latchkey-prometheus", HASH_WORKERS="1", HASH_QUEUE_TIMEOUT="1",
                  LOGIN_FAILURES_PER_PAIR="3", LOGINS_PER_MINUTE="0").ready() as latchkey:
        person = Person(latchkey)
        wrong = make_traffic(latchkey, person)
        check("the services answer", not wrong, "\n".join(wrong))
        check("guessing is throttled", throttle(latchkey) == 429)
        check("too many logins at once are refused", overload(latchkey))
        check("a client that leaves is counted", leave(latchkey), scrape(latchkey)["auth-service"])
        test_exposition(scrape(latchkey))
        test_prometheus(work, latchkey, person, alert_count, queries)


# ---------------------------------------------------------------------------------------------- OTLP


class Collector(Program):
    """A collector that writes what it receives to a file."""

    def __init__(self, work, name, http_port=None):
        grpc_port, other = free_ports(2)
        http_port = http_port or other
        self.endpoints = {"grpc": f"http://127.0.0.1:{grpc_port}",
                          "http/protobuf": f"http://127.0.0.1:{http_port}"}
        self.received = work / f"{name}.jsonl"
        config = work / f"{name}.json"
        # JSON is a subset of YAML.
        config.write_text(json.dumps({
            "receivers": {"otlp": {"protocols": {
                "grpc": {"endpoint": f"127.0.0.1:{grpc_port}"},
                "http": {"endpoint": f"127.0.0.1:{http_port}"}}}},
            "exporters": {"lines": {"path": str(self.received)}},
            "service": {"pipelines": {
                signal_: {"receivers": ["otlp"], "exporters": ["lines"]}
                for signal_ in ("traces", "metrics")}}}))
        super().__init__(work, name, [sys.argv[2], "--config", str(config)])
        for port in (grpc_port, http_port):
            if not until(lambda: listens(port)):
                sys.exit(f"the collector does not listen:\n{self.text()}")

    def raw(self):
        return self.received.read_text() if self.received.exists() else ""

    def documents(self):
        # The last line may still be incomplete.
        return [json.loads(line) for line in self.raw().splitlines(True) if line.endswith("\n")]

    def spans(self):
        found = []
        for document in self.documents():
            for resource in document.get("resourceSpans", []):
                of_resource = attributes(resource["resource"])
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        found.append({**span, "resource": of_resource, "attributes": attributes(span),
                                      "service": of_resource.get("service.name"),
                                      "parent": span.get("parentSpanId", "")})
        return found

    def metrics(self):
        """The metrics by service and name, as they were last received."""
        found = {}
        for document in self.documents():
            for resource in document.get("resourceMetrics", []):
                service = attributes(resource["resource"]).get("service.name")
                for scope in resource["scopeMetrics"]:
                    for metric in scope["metrics"]:
                        found[service, metric["name"]] = metric
        return found


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def attributes(of):
    """Attributes as a plain dictionary. OTLP/JSON writes integers as text."""
    def plain(value):
        (kind, content), = value.items()
        return int(content) if kind == "intValue" else content
    return {item["key"]: plain(item["value"]) for item in of.get("attributes", [])}


class Trace:
    """The trace of a caller, whose own span is never exported."""

    def __init__(self, sampled=True):
        self.id, self.span = secrets.token_hex(16), secrets.token_hex(8)
        self.headers = {"traceparent": f"00-{self.id}-{self.span}-{'01' if sampled else '00'}"}


SERVER, CLIENT, INTERNAL = 2, 3, 1


def test_otlp(work, protocol):
    short = protocol.split("/")[0]
    print(f"\nOTLP by {protocol}", flush=True)
    with Collector(work, f"collector-{short}") as collector, Latchkey(
            work, f"latchkey-{short}", OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoints[protocol],
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol, OTEL_BSP_SCHEDULE_DELAY="200",
            OTEL_METRIC_EXPORT_INTERVAL="500", LOGIN_FAILURES_PER_PAIR="3",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
    ).ready() as latchkey:
        person = Person(latchkey)
        traces = {name: Trace(sampled=name != "unsampled") for name in (
            "register", "login", "failed", "read", "grpc", "unmatched", "lost", "unsampled",
            "delete", "last")}
        headers = {name: trace.headers for name, trace in traces.items()}
        outcomes = [
            person.register(headers["register"]), person.login(headers["login"]),
            person.login(headers["failed"], person.wrong), person.read(headers["read"]),
            person.read(headers["unsampled"]), person.read({"traceparent": "00-malformed-01"}),
            person.rename(), person.stay_logged_in(), person.grpc_login(headers["grpc"]),
            request("GET", latchkey.user_http, f"/{person.path}", None, headers["lost"])[0],
            grpc(latchkey.user_grpc, f"/{person.path}/{person.path}", None, headers["unmatched"]),
            grpc(latchkey.auth_grpc, "/grpc.health.v1.Health/Check"), person.delete(headers["delete"]),
        ]
        check("the services answer", outcomes == [201, 200, 401, 200, 200, 200, 200, 200, 0, 404, 12, 0, 204],
              outcomes)
        throttled = throttle(latchkey)

        def of(name):
            return [span for span in collector.spans() if span["traceId"] == traces[name].id]

        # The call to the auth service follows the response to the DELETE.
        until(lambda: any(span["service"] == "auth-service" and span["kind"] == SERVER
                          for span in of("delete")))
        until(lambda: {("auth-service", "auth.throttled_requests"), ("user-service", "user.jwks.age")}
              <= collector.metrics().keys())
        texts = scrape(latchkey)

        # This is sent at the end of the process, before the export interval has passed.
        request("GET", latchkey.auth_http, "/livez", None, headers["last"])
        status, seconds = latchkey.stop()
        check("SIGTERM ends it with status 0 at once", status == 0 and seconds < 4, (status, seconds))
        check("the last request's span arrives", until(lambda: of("last"), 3))
        test_traces(person, traces, of, collector)
        test_otlp_metrics(collector.metrics(), texts, throttled)

        raw = collector.raw()
        leaked = [secret for secret in person.secrets() if secret and secret in raw]
        check("nothing secret is in what was received, nor anything that a client made up",
              raw and not leaked, leaked)


def test_traces(person, traces, of, collector):
    def server(name, service, title):
        """The server span of a request, as a child of the caller's."""
        spans = [span for span in of(name)
                 if span["kind"] == SERVER and span["parent"] == traces[name].span]
        good = (len(spans) == 1 and spans[0]["service"] == service and spans[0]["name"] == title)
        check(f"{title} ({name}) has a server span in the caller's trace", good,
              json.dumps(of(name), indent=1))
        return spans[0] if good else {"attributes": {}, "spanId": "none"}

    def http_attributes(span, method, route, status):
        expected = {"http.request.method": method, "http.route": route,
                    "http.response.status_code": status, "url.scheme": "http"}
        got = {key: span["attributes"].get(key) for key in expected}
        check(f"its attributes tell of {method} {route} {status}", got == expected, got)

    register = server("register", "auth-service", "POST /auth/register")
    http_attributes(register, "POST", "/auth/register", 201)
    login = server("login", "auth-service", "POST /auth/login")
    http_attributes(login, "POST", "/auth/login", 200)
    children = {(span["name"], span["kind"]) for span in of("login")
                if span["parent"] == login["spanId"]}
    check("inside it are the password's hash and the database",
          children == {("password hash", INTERNAL), ("database", CLIENT)}, children)
    systems = {span["attributes"].get("db.system.name") for span in of("login")
               if span["name"] == "database"}
    check("the database has a name", systems == {"sqlite"}, systems)
    failed_login = server("failed", "auth-service", "POST /auth/login")
    http_attributes(failed_login, "POST", "/auth/login", 401)
    check("a refusal is no failure of the service", failed_login.get("status") == {},
          failed_login.get("status"))
    read = server("read", "user-service", "GET /users/{id}")
    http_attributes(read, "GET", "/users/{id}", 200)
    http_attributes(server("lost", "user-service", "GET unmatched"), "GET", "unmatched", 404)

    call = server("grpc", "auth-service", "auth.v1.AuthService/Login")
    expected = {"rpc.system.name": "grpc", "rpc.method": "auth.v1.AuthService/Login",
                "rpc.response.status_code": "OK"}
    got = {key: call["attributes"].get(key) for key in expected}
    check("a gRPC span tells of its method and status", got == expected, got)
    unmatched = [span for span in of("unmatched") if span["kind"] == SERVER]
    check("a gRPC method that does not exist has a span without its name",
          len(unmatched) == 1 and person.path not in json.dumps(unmatched), unmatched)

    check("a trace that the caller does not sample is not sent",
          collector.spans() and not of("unsampled"), of("unsampled"))
    malformed = [span for span in collector.spans() if span["name"] == "GET /users/{id}"
                 and span["traceId"] not in {trace.id for trace in traces.values()}]
    check("a malformed traceparent begins a new trace",
          len(malformed) == 1 and not malformed[0]["parent"], malformed)

    deletion = server("delete", "user-service", "DELETE /users/{id}")
    http_attributes(deletion, "DELETE", "/users/{id}", 204)
    title = "auth.v1.AccountService/DeleteAccount"
    sent = [span for span in of("delete") if span["name"] == title and span["kind"] == CLIENT]
    check("the call of the outbox has a span inside the DELETE's",
          len(sent) == 1 and sent[0]["service"] == "user-service"
          and sent[0]["parent"] == deletion["spanId"]
          and sent[0]["attributes"].get("rpc.method") == title, sent)
    got = [span for span in of("delete") if span["name"] == title and span["kind"] == SERVER]
    check("the auth service's span is inside that",
          len(got) == 1 and len(sent) == 1 and got[0]["service"] == "auth-service"
          and got[0]["parent"] == sent[0]["spanId"], got)

    services = {span["service"] for span in collector.spans()}
    check("spans come from auth-service and user-service", services == set(STANDARD), services)
    resources = {(span["service"], span["resource"].get("service.instance.id"))
                 for span in collector.spans()}
    check("each service is an instance of its own",
          len(resources) == 2 and len({instance for _, instance in resources} - {None}) == 2, resources)
    environments = {span["resource"].get("deployment.environment.name") for span in collector.spans()}
    check("OTEL_RESOURCE_ATTRIBUTES is in the resource", environments == {"test"}, environments)


def test_otlp_metrics(metrics, texts, throttled):
    units = {"http.server.request.duration": "s", "rpc.server.call.duration": "s",
             "db.client.operation.duration": "s", "auth.hash.queue.wait": "s"}
    wrong = []
    for (service, name), metric in metrics.items():
        if name in units:
            histogram = metric.get("histogram", {})
            points = histogram.get("dataPoints", [{}])
            if (metric.get("unit") != units[name] or histogram.get("aggregationTemporality") != 2
                    or any(point.get("explicitBounds") != DURATIONS for point in points)):
                wrong.append(f"{service} {name}: {json.dumps(metric)[:500]}")
    names = {name for _, name in metrics}
    check("durations arrive as cumulative histograms in seconds", units.keys() <= names and not wrong,
          "\n".join(wrong) or sorted(names))

    points = metrics.get(("auth-service", "http.server.request.duration"), {}).get(
        "histogram", {}).get("dataPoints", [])
    found = [attributes(point) for point in points]
    expected = {"http.request.method": "POST", "http.route": "/auth/login",
                "http.response.status_code": 200}
    check("their attributes are those of the spans", expected in found, found)
    check("throttled requests arrive as a sum", throttled == 429 and "sum" in metrics.get(
        ("auth-service", "auth.throttled_requests"), {}), throttled)

    suffixes = {"s": "_seconds", "By": "_bytes"}
    wrong = []
    for job, text in texts.items():
        by_otlp = {name.replace(".", "_") + suffixes.get(metric.get("unit"), "")
                   for (service, name), metric in metrics.items() if service == job}
        # The version is in the resource attributes.
        exposed = {name for name, kind in families(text).items() if kind != "info"}
        wrong += [f"{job}: {name}" for name in sorted((by_otlp ^ exposed) - NOT_COUNTED)]
    check("by OTLP come the metrics that Prometheus sees, and no other", not wrong, "\n".join(wrong))


@contextlib.contextmanager
def black_hole():
    """An address that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield listener.getsockname()[1]


def test_collector_away(work, what, protocol, port, comes=False):
    print(f"\nno collector: {what}, {protocol}", flush=True)
    with Latchkey(work, f"latchkey-{what}-{protocol.split('/')[0]}",
                  OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
                  OTEL_EXPORTER_OTLP_PROTOCOL=protocol, OTEL_BSP_SCHEDULE_DELAY="100",
                  OTEL_METRIC_EXPORT_INTERVAL="200", SHUTDOWN_GRACE="4").ready() as latchkey:
        person = Person(latchkey)
        outcomes = [person.register(), person.login(), person.read(), person.delete()]
        check("the services answer", outcomes == [201, 200, 200, 204], outcomes)
        answers, slowest = set(), 0.0
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            began = time.monotonic()
            answers.add(request("GET", latchkey.auth_http, "/.well-known/jwks.json")[0])
            answers.add(request("GET", latchkey.user_http, "/livez")[0])
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.02)
        check("no request fails", answers == {200}, answers)
        check("no request is slow", slowest < SLOW, f"{slowest:.3f} s")
        if comes:
            with Collector(work, f"collector-{what}", port) as collector:
                def arrives():
                    request("GET", latchkey.auth_http, "/livez")
                    return collector.spans() and collector.metrics()
                check("when the collector comes, telemetry arrives", until(arrives),
                      latchkey.text()[-2000:])
        status, seconds = latchkey.stop()
        # One second of tolerance for the end of the process and the load of this machine.
        check("SIGTERM ends it with status 0 within SHUTDOWN_GRACE", status == 0 and seconds < 5,
              f"status {status} after {seconds:.1f} s; SHUTDOWN_GRACE is 4 s")
        about = [line for line in latchkey.text().splitlines() if "collector" in line]
        other = [line for line in latchkey.text().splitlines() if '"opentelemetry' in line]
        # Two services with two signals each, logged when the collector disappears and when it
        # returns; and at the end, what it no longer accepted.
        check("the log says it once for each service and signal, and not again each time",
              1 <= len(about) <= (14 if comes else 6) and not other, "\n".join([*about, *other]))


def main():
    work = pathlib.Path(tempfile.mkdtemp(prefix="latchkey-telemetry-"))
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda number, _: sys.exit(128 + number))
    try:
        alert_count = test_files()
        queries = test_dashboard_file()
        print("\nPrometheus", flush=True)
        test_metrics(work, alert_count, queries)
        for protocol in ("http/protobuf", "grpc"):
            test_otlp(work, protocol)
        closed, = free_ports(1)
        test_collector_away(work, "refused", "http/protobuf", closed, comes=True)
        with black_hole() as port:
            test_collector_away(work, "silent", "http/protobuf", port)
            test_collector_away(work, "silent", "grpc", port)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
