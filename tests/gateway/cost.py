"""What the gateway costs: the same reads with it and without, in turn, in one run."""

import base64
import http.client
import json
import statistics
import time

from checks import check
from stack import Ports, auth_service, envoy, ready, request, until, user_service

ROUNDS, REQUESTS = 4, 500


def run(work, descriptors):
    work = work / "cost"
    work.mkdir()
    ports = Ports()
    auth = auth_service(work, ports)
    user = user_service(work, ports, LOG_LEVEL="error")
    until(lambda: ready(ports.auth) and ready(ports.user), 30, lambda: auth.text() + user.text())
    gateway = envoy(work, ports, descriptors)
    credentials = {"email": "ada@example.com", "password": "correct horse battery staple"}
    until(lambda: ready(ports.auth), 10, auth.text)
    until(
        lambda: request(ports.gateway, "POST", "/auth/register", body=credentials).status in (201, 409),
        10,
        gateway.text,
    )
    login = request(ports.gateway, "POST", "/auth/login", body=credentials).json
    token = login["access_token"]
    claims = token.split(".")[1]
    path = f"/users/{json.loads(base64.urlsafe_b64decode(claims + '=='))['sub']}"
    fields = {"Authorization": f"Bearer {token}"}
    until(
        lambda: request(ports.gateway, "GET", path, fields.items()).status == 200, 10, gateway.text
    )

    times, cpu = {"direct": [], "gateway": []}, {}
    failed = 0
    for _ in range(ROUNDS):
        for way, port in [("direct", ports.user), ("gateway", ports.gateway)]:
            before = user.cpu(), gateway.cpu()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            for _ in range(REQUESTS):
                # Below the limit of a client.
                began = time.perf_counter()
                connection.request("GET", path, headers=fields)
                answer = connection.getresponse()
                answer.read()
                took = time.perf_counter() - began
                times[way].append(took)
                failed += answer.status != 200
                time.sleep(max(0, 1 / 180 - took))
            connection.close()
            after = user.cpu(), gateway.cpu()
            sums = cpu.setdefault(way, [0.0, 0.0])
            sums[0] += after[0] - before[0]
            sums[1] += after[1] - before[1]
    check("no read failed while the cost was measured", failed == 0, failed)
    count = ROUNDS * REQUESTS
    for way in times:
        quantiles = statistics.quantiles(times[way], n=100)
        print(
            f"      {way}: median {statistics.median(times[way]) * 1e6:.0f} us, "
            f"99 % {quantiles[98] * 1e6:.0f} us; CPU for each request: "
            f"service {cpu[way][0] / count * 1e6:.0f} us, gateway {cpu[way][1] / count * 1e6:.0f} us"
        )
    added = statistics.median(times["gateway"]) - statistics.median(times["direct"])
    check(f"the gateway adds {added * 1e6:.0f} us to a read, less than 5 ms", added < 0.005)
    for process in (gateway, user, auth):
        process.stop()
