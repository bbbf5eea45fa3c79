"""The tests of scripts/test-telemetry, which finds the programs and runs this:

    run.py LATCHKEY COLLECTOR

with the paths of the two programs; prometheus, promtool and curl are on the PATH. Everything runs on
free ports of 127.0.0.1, in a temporary folder that is deleted at the end.
"""

import contextlib
import pathlib
import shutil
import signal
import socket
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from checks import check, finish
from files import test_dashboard_file, test_files
from kit import Latchkey, Person, free_ports, request, until
from otlp import Collector, test_otlp
from prometheus import test_metrics

# The time limit of a request that hashes no password. It is generous, because this machine may be
# busy. If a request waited for an exporter, it would take the exporter's timeout of 10 s.
SLOW = 2.0


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
    finish()


if __name__ == "__main__":
    main()
