"""What /metrics says, beside the docs and beside the queries of alerts and dashboard."""

import re
import subprocess

from checks import check
from kit import OPERATIONS

# Series that Prometheus creates itself.
OF_PROMETHEUS = {"up", "ALERTS"}
# OpenTelemetry defines this name for a gauge, but promtool reserves the suffix for histograms.
LINT = {"db_client_connection_count"}
# The suffixes that OpenMetrics adds to the names of these metric types.
ENDINGS = {"counter": "_total", "info": "_info"}
# Metrics that only exist with TLS, a look-up of breached passwords, or webhooks.
ABSENT = {"auth_breach_checks_total", "tls_certificate_end_time_seconds", "auth_webhook_outbox_depth",
          "auth_webhook_outbox_age_seconds", "auth_webhook_outbox_attempts_total"}


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
