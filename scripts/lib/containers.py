"""Checks Dockerfile and what `docker compose config --format json` makes of docker-compose.yml (stdin).

Tells each fault and ends with 1 if there is one. scripts/check-containers runs this.
"""

import json
import pathlib
import re
import sys
import tomllib

PORTS = {"auth-service": {3000, 50051, 9464}, "user-service": {4000, 50052, 9465}}
PINNED = re.compile(r"^[a-z0-9./-]+:[^@\s]*[0-9][^@\s]*@sha256:[0-9a-f]{64}$")


def instructions(text):
    """Yields stage, instruction and argument, with continued lines joined. The stage of global ones is ''."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    stage = ""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "FROM":
            stage = rest.split()[-1]
        yield stage, word.upper(), " ".join(rest.split())


def dockerfile_faults(text, manifest):
    """Returns what is wrong with the text of a Dockerfile."""
    faults = []
    if re.search(r"^#\s*syntax\s*=", text, re.M | re.I):
        faults.append("Dockerfile: a syntax line pulls an image that builds with secrets in reach")
    all_of = list(instructions(text))
    stages = {stage for stage, word, _ in all_of if word == "FROM"}
    defaults = dict(
        rest.split("=", 1) for stage, word, rest in all_of if word == "ARG" and "=" in rest
    )
    parents = {}
    for stage, word, rest in all_of:
        if word == "FROM":
            parent = re.sub(r"\$\{(\w+)\}", lambda m: defaults.get(m[1], ""), rest.split()[0])
            parents[stage] = parent
            if parent not in stages and not PINNED.match(parent):
                faults.append(f"Dockerfile: {parent} is not pinned by a version and a digest")
            if parent.startswith("rust:"):
                wanted = manifest["workspace"]["package"]["rust-version"]
                if not parent.startswith((f"rust:{wanted}.", f"rust:{wanted}-")):
                    faults.append(f"Dockerfile: {parent} is not the Rust {wanted} of Cargo.toml")
        if word == "COPY" and (source := re.search(r"--from=(\S+)", rest)):
            if source[1] not in stages:
                faults.append(f"Dockerfile: COPY from {source[1]}, which is no stage")
        if word == "ADD":
            faults.append("Dockerfile: ADD fetches and unpacks; COPY does not")
    if defaults.get("VERSION") != manifest["workspace"]["package"]["version"]:
        faults.append("Dockerfile: VERSION is not the version of Cargo.toml")

    for service, ports in PORTS.items():
        if service not in stages:
            faults.append(f"Dockerfile: there is no stage {service}")
            continue
        line = [service]
        while parents.get(line[-1]) in stages:
            line.append(parents[line[-1]])
        of = {}
        for stage in reversed(line):
            for _, word, rest in (item for item in all_of if item[0] == stage):
                of.setdefault(word, []).append(rest)
        user = of.get("USER", ["root"])[-1].split(":")[0]
        if not user.isdigit() or user == "0":
            faults.append(f"{service}: the user {user} is not a number other than 0")
        health = of.get("HEALTHCHECK", [""])[-1]
        if f'CMD ["/usr/local/bin/{service}", "healthcheck", "--live"]' not in health:
            faults.append(f"{service}: HEALTHCHECK is not `healthcheck --live`: {health}")
        exposed = {int(port) for rest in of.get("EXPOSE", []) for port in rest.split()}
        if exposed != ports:
            faults.append(f"{service}: EXPOSE has {sorted(exposed)} instead of {sorted(ports)}")
        environment = " ".join(of.get("ENV", []))
        if "DATABASE_URL" in environment:
            faults.append(f"{service}: the image has a default database")
        if f"ADMIN_ADDR=0.0.0.0:{max(p for p in ports if p < 10000 and p > 9000)}" not in environment:
            faults.append(f"{service}: ADMIN_ADDR is not for the container's network")
        labels = " ".join(of.get("LABEL", []))
        for label in ("title", "description", "licenses", "vendor", "version", "revision"):
            if f"org.opencontainers.image.{label}=" not in labels:
                faults.append(f"{service}: there is no label org.opencontainers.image.{label}")
        if "sbom.cdx.json" not in " ".join(of.get("COPY", [])):
            faults.append(f"{service}: there is no bill of materials")
    return faults


def compose_faults(config):
    """Returns what is wrong with a resolved compose file."""
    faults = []
    for name, service in config["services"].items():
        build = service.get("build")
        if build and service.get("pull_policy") != "build":
            faults.append(f"{name}: its image might be pulled: pull_policy is not build")
        if build and build.get("target") != name:
            faults.append(f"{name}: builds the stage {build.get('target')}")
        if not build and not PINNED.match(service.get("image", "")):
            faults.append(f"{name}: {service.get('image')} is not pinned by a version and a digest")
        if not service.get("read_only"):
            faults.append(f"{name}: its root file system can be written")
        if service.get("cap_drop") != ["ALL"]:
            faults.append(f"{name}: keeps capabilities")
        if "no-new-privileges:true" not in service.get("security_opt", []):
            faults.append(f"{name}: may gain privileges")
        if service.get("privileged") or service.get("network_mode") == "host":
            faults.append(f"{name}: is not contained")
        if service.get("cap_add", []) not in ([], ["CHOWN"]):
            faults.append(f"{name}: adds {service['cap_add']}")
        for port in service.get("ports", []):
            if port.get("host_ip") != "127.0.0.1":
                faults.append(f"{name}: port {port['target']} is open to other machines")
        if name in PORTS:
            published = {port["target"] for port in service.get("ports", [])}
            if published != PORTS[name]:
                faults.append(f"{name}: publishes {sorted(published)}")
            if "healthcheck" in service:
                faults.append(f"{name}: has another health check than its image")
        for variable, value in (service.get("environment") or {}).items():
            secret = re.search(r"PASSWORD|SECRET|TOKEN|KEY|DATABASE_URL", variable)
            if secret and not variable.endswith("_FILE"):
                faults.append(f"{name}: {variable} is a secret in the environment: {value!r}")
    for name, network in config["networks"].items():
        if name.endswith("database") and not network.get("internal"):
            faults.append(f"network {name}: has a way out")
    missing = PORTS.keys() - config["services"].keys()
    return faults + [f"there is no service {name}" for name in sorted(missing)]


def self_test(dockerfile, manifest, config):
    """Checks that each of these faults is found: a check that cannot fail says nothing."""
    broken_files = [
        ("# syntax=docker/dockerfile:1\n" + dockerfile, "syntax"),
        (re.sub(r"@sha256:[0-9a-f]+", "", dockerfile), "not pinned"),
        (dockerfile.replace("USER 65532:65532", "USER root"), "user root"),
        (dockerfile.replace(', "--live"', ""), "HEALTHCHECK"),
        (dockerfile.replace("ENV ADMIN_ADDR", "ENV DATABASE_URL=sqlite://x ADMIN_ADDR"), "database"),
        (dockerfile.replace("ADMIN_ADDR=0.0.0.0", "ADMIN_ADDR=127.0.0.1"), "ADMIN_ADDR"),
        (dockerfile.replace(" 9464\n", "\n"), "EXPOSE"),
        (dockerfile.replace("ARG VERSION=", "ARG VERSION=9"), "VERSION"),
    ]
    for text, expected in broken_files:
        found = dockerfile_faults(text, manifest)
        if not any(expected in fault for fault in found):
            yield f"the check itself: a Dockerfile's fault is not found ({expected}): {found}"

    def broken(service, **changes):
        copy = json.loads(json.dumps(config))
        copy["services"][service].update(changes)
        return compose_faults(copy)

    for service, changes, expected in [
        ("auth-service", {"pull_policy": "missing"}, "might be pulled"),
        ("auth-postgres", {"image": "postgres:17-alpine"}, "not pinned"),
        ("user-service", {"read_only": False}, "can be written"),
        ("user-service", {"cap_drop": []}, "keeps capabilities"),
        ("user-service", {"environment": {"SERVICE_TOKEN": "x"}}, "secret in the environment"),
        ("auth-service", {"ports": [{"target": 3000, "host_ip": ""}]}, "open to other machines"),
    ]:
        if not any(expected in fault for fault in broken(service, **changes)):
            yield f"the check itself: a fault of {service} is not found: {changes}"


def main():
    dockerfile = pathlib.Path("Dockerfile").read_text()
    manifest = tomllib.loads(pathlib.Path("Cargo.toml").read_text())
    config = json.load(sys.stdin)
    faults = [
        *dockerfile_faults(dockerfile, manifest),
        *compose_faults(config),
        *self_test(dockerfile, manifest, config),
    ]
    if faults:
        sys.exit("\n".join(faults))
    print("Dockerfile and docker-compose.yml: ok")


if __name__ == "__main__":
    main()
