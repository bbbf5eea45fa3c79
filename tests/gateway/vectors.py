"""The tokens of crates/token-verifier/vectors, at the gateway and at the user service itself.

Both live in the second for which these tokens are made: clock.c stops their clock of the day there.
"""

import json
import pathlib
import subprocess
from collections import Counter

from checks import check
from stack import VECTORS, KeySet, Ports, envoy, ready, request, until, user_service

HERE = pathlib.Path(__file__).resolve().parent

# Where the two may say different things, and why.
KNOWN = {"form: empty": "a field with nothing after the scheme has no token, says Envoy; a malformed one, says the service"}

# What Envoy refuses although it is good, and why that does not matter.
REFUSED = {"good: Ed25519 for EdDSA": "Envoy 1.40 does not know RFC 9864; the auth service signs under the older name, EdDSA"}


def run(work, descriptors):
    work = work / "vectors"
    work.mkdir()
    data = json.loads(VECTORS.read_text())
    library = work / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "clock.c"], check=True)
    clock = {"LD_PRELOAD": str(library), "STOPPED_CLOCK": str(data["now"])}
    keys = KeySet(data["jwks"])
    ports = Ports()
    ports.auth = keys.port
    user = user_service(work, ports, JWT_ISSUER=data["rules"]["iss"], **clock)
    until(lambda: ready(ports.user), 20, user.text)
    gateway = envoy(work, ports, descriptors, data["rules"]["iss"], clock)

    good = next(item for item in data["tokens"] if item["valid"])
    path = f"/users/{good['claims']['sub']}"
    fields = [("authorization", f"Bearer {good['token']}")]
    until(
        lambda: request(ports.gateway, "GET", path, fields).status == 200,
        10,
        lambda: gateway.text() + user.text(),
    )

    wrong, passed, verdicts, unsent = [], Counter(), Counter(), 0
    for number, item in enumerate(data["tokens"]):
        token = item["token"]
        if any(sign in token for sign in "\r\n\0") or token != token.strip():
            # A header field cannot hold it; white space around a value is none of it.
            unsent += 1
            continue
        fields = [("authorization", f"Bearer {token}"), ("x-request-id", f"vector-{number}")]
        direct = request(ports.user, "GET", path, fields)
        through = request(ports.gateway, "GET", path, fields)
        # A valid token of another person finds a profile or does not; either way it was taken.
        if (direct.status in (200, 404)) != item["valid"]:
            wrong.append((item["name"], "the service itself", direct))
        seen = [(it.status, it.json.get("code"), it.header("www-authenticate")) for it in (direct, through)]
        if item["name"] in REFUSED and seen[1][:2] == (401, "invalid_token"):
            continue
        if seen[0] != seen[1] and not (item["name"] in KNOWN and seen[0][0] == seen[1][0]):
            wrong.append((item["name"], *seen))
        verdicts[direct.status] += 1
    lines = until(lambda: counted(gateway, data["tokens"], unsent), 10, "the gateway's log")
    for name, line in lines.items():
        valid = name.startswith("good:")
        if not valid and line["details"] == "via_upstream":
            passed[name] += 1
    check(
        f"{sum(verdicts.values())} tokens get the verdict at the gateway that the service gives itself: {dict(verdicts)}",
        not wrong,
        "\n".join(map(str, wrong)),
    )
    print(f"      {unsent} cannot be sent in a header field")
    forged = sum(1 for name in lines if not name.startswith("good:"))
    print(f"      of {forged} bad ones the gateway refuses {forged - len(passed)} and the service the rest:")
    for name in passed:
        print(f"        {name}")
    gateway.stop()
    user.stop()


def counted(gateway, tokens, unsent):
    lines = {}
    for line in gateway.lines():
        request_id = str(line.get("request_id"))
        if request_id.startswith("vector-"):
            lines[tokens[int(request_id.removeprefix("vector-"))]["name"]] = line
    return lines if len(lines) >= len(tokens) - unsent - 5 else None
