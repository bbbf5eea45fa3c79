"""Traces and metrics by OTLP, as a collector receives them."""

import contextlib
import json
import secrets
import socket
import sys

from checks import check
from exposition import families
from kit import Latchkey, Person, Program, free_ports, grpc, request, until
from traffic import scrape, throttle

DURATIONS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
# OTLP exports a sum only after the first count, and nothing here requests a mail.
NOT_COUNTED = {"auth_mail_outbox_attempts"}


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
    check("spans come from auth-service and user-service",
          services == {"auth-service", "user-service"}, services)
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
