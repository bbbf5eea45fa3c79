"""Rules of ours for the rendered chart: chart.py OBJECTS ALERTS. scripts/test-chart runs this."""

import pathlib
import re
import sys

try:
    import yaml
except ImportError:
    sys.exit("needs PyYAML")

ADMIN = {"auth-service": 9464, "user-service": 9465}


def pods(objects):
    for item in objects:
        if item["kind"] == "Pod":
            yield item["metadata"]["name"], item["spec"]
        elif "template" in item.get("spec", {}):
            yield item["metadata"]["name"], item["spec"]["template"]["spec"]


def faults(objects, alerts):
    for name, spec in pods(objects):
        security = spec.get("securityContext", {})
        if security.get("seccompProfile") != {"type": "RuntimeDefault"} or not security.get("runAsNonRoot"):
            yield f"{name}: not a restricted pod"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name}: gets a token of the cluster that it does not use"
        for container in spec["containers"]:
            its = container.get("securityContext", {})
            restricted = (
                its.get("allowPrivilegeEscalation") is False
                and its.get("readOnlyRootFilesystem") is True
                and its.get("capabilities") == {"drop": ["ALL"]}
            )
            if not restricted:
                yield f"{name}: not a restricted container"
            for variable in container.get("env", []):
                secret = re.search(r"DATABASE_URL|KEY_ENCRYPTION|TOKEN$|SECRET|PASSWORD$", variable["name"])
                if secret and "secretKeyRef" not in variable.get("valueFrom", {}):
                    yield f"{name}: {variable['name']} is not from a Secret"
    deployments = {item["metadata"]["name"]: item for item in objects if item["kind"] == "Deployment"}
    for service, port in ADMIN.items():
        found = deployments.get(f"latchkey-{service}")
        if not found:
            yield f"there is no Deployment of {service}"
            continue
        spec = found["spec"]["template"]["spec"]
        container = spec["containers"][0]
        named = {item["name"]: item["containerPort"] for item in container["ports"]}
        if named.get("admin") != port:
            yield f"{service}: the operators' port is {named.get('admin')}"
        for probe, path in [("startup", "/livez"), ("liveness", "/livez"), ("readiness", "/readyz")]:
            if container[f"{probe}Probe"]["httpGet"] != {"path": path, "port": "admin"}:
                yield f"{service}: the {probe} probe does not ask {path} at the operators' port"
        settings = {item["name"]: item.get("value") for item in container["env"]}
        if settings.get("MIGRATE_ON_START") != "false":
            yield f"{service}: migrates at its start"
        grace = int(settings["SHUTDOWN_DELAY"]) + int(settings["SHUTDOWN_GRACE"])
        if spec["terminationGracePeriodSeconds"] <= grace:
            yield f"{service}: is killed before it has stopped"
    for name, item in ((item["metadata"]["name"], item) for item in objects if item["kind"] == "Job"):
        hooks = item["metadata"]["annotations"]["helm.sh/hook"]
        secrets = [it["name"] for it in item["spec"]["template"]["spec"]["containers"][0]["env"]]
        if hooks != "pre-install,pre-upgrade" or secrets != ["DATABASE_URL"]:
            yield f"{name}: {hooks}, {secrets}"
    rules = [item["spec"] for item in objects if item["kind"] == "PrometheusRule"]
    if rules != [alerts]:
        yield "the PrometheusRule is not deploy/prometheus/alerts.yml"


def main():
    objects = [item for item in yaml.safe_load_all(pathlib.Path(sys.argv[1]).read_text()) if item]
    alerts = yaml.safe_load(pathlib.Path(sys.argv[2]).read_text())
    found = list(faults(objects, alerts))
    # A check that cannot fail says nothing.
    for item in objects:
        if item["kind"] == "Deployment":
            item["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpGet"]["port"] = "http"
            item["spec"]["template"]["spec"]["securityContext"] = {}
    if len(list(faults(objects, alerts))) < len(found) + 4:
        found.append("the check itself: faults are not found")
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
