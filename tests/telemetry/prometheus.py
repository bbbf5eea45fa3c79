"""Prometheus with the example configuration: it scrapes, and evaluates alerts and dashboard."""

import json
import re
import time
import urllib.parse

from checks import check
from exposition import samples, test_exposition, test_queries
from files import ALERTS, PROMETHEUS
from kit import Latchkey, Person, Program, free_ports, request, until
from traffic import leave, make_traffic, overload, scrape, throttle

# The targets in the example configuration.
STANDARD = {"auth-service": "127.0.0.1:9464", "user-service": "127.0.0.1:9465"}


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
