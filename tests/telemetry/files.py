"""The files for Prometheus and Grafana, without running services."""

import json
import re
import subprocess

from checks import check
from kit import OPERATIONS, ROOT

ALERTS = ROOT / "deploy/prometheus/alerts.yml"
ALERTS_TEST = ROOT / "deploy/prometheus/alerts_test.yml"
PROMETHEUS = ROOT / "deploy/prometheus/prometheus.yml"
DASHBOARD = ROOT / "deploy/grafana/latchkey.json"


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
