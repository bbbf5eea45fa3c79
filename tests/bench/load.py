"""The loaders: wrk for REST, ghz for gRPC."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import signal
import subprocess
import threading

from .processes import BINARIES, Bench, Failed, profile_id

HERE = pathlib.Path(__file__).parent
SEEDS = itertools.count(1)
# One connection carries many calls in HTTP/2; clients in many processes have one each.
MOST_GRPC_CONNECTIONS = 8


class Load:
    """A loader at work. `finish` waits for it and returns what it has measured."""

    # Whether requests that fail are a figure. Otherwise they end the measurement.
    may_fail = False

    def __init__(
        self, bench: Bench, what: str, command: list[str], seconds: float, **settings: str
    ):
        self.what = what
        self.process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "SEED": str(next(SEEDS)), **settings},
            start_new_session=bench.own_sessions,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        bench.loads.append(self.process)
        self.timer = threading.Timer(seconds + 90, self.process.kill)
        self.timer.daemon = True
        self.timer.start()

    def interrupt(self) -> None:
        """Ends it early; it still tells what it has measured."""
        self.process.send_signal(signal.SIGINT)

    def finish(self) -> dict:
        output, errors = self.process.stdout.read(), self.process.stderr.read()
        # Its processor time comes with its end.
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.timer.cancel()
        if self.process.returncode:
            text = errors.strip() or output.strip()
            raise Failed(f"{self.what}: the loader ended with {self.process.returncode}: {text}")
        result = self.parse(output)
        if (failed := result["failed"]) and not self.may_fail:
            raise Failed(f"{self.what}: {failed} of {result['requests']} requests failed")
        if not result["requests"]:
            raise Failed(f"{self.what}: not one request was answered")
        return {**result, "loader_cpu": usage.ru_utime + usage.ru_stime}

    def parse(self, output: str) -> dict:
        raise NotImplementedError


class Wrk(Load):
    def __init__(
        self,
        bench: Bench,
        url: str,
        kind: str,
        connections: int,
        seconds: float,
        token: str | None = None,
        **settings: object,
    ):
        command = ["wrk", "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{seconds:.0f}s", "--timeout", "60s"]
        command += ["--script", str(HERE / "load.lua")]
        if token:
            command += ["--header", f"Authorization: Bearer {token}"]
        settings = {name: str(value) for name, value in settings.items()}
        what = f"{kind} {settings.get('TARGET', '')} at {connections} connections".replace(
            "  ", " "
        )
        super().__init__(bench, what, [*command, url], seconds, KIND=kind, **settings)

    def parse(self, output: str) -> dict:
        return printed(self.what, output)


class Paced(Load):
    """A fixed number of requests a second, whether or not those before have been answered."""

    def __init__(
        self, bench: Bench, url: str, path: str, rate: int, seconds: int, token: str | None = None
    ):
        address = url.removeprefix("http://")
        command = [str(BINARIES / "bench"), "paced", address, path, str(rate), str(seconds)]
        settings = {"TOKEN": token} if token else {}
        super().__init__(bench, f"{path} {rate} times a second", command, seconds, **settings)

    def parse(self, output: str) -> dict:
        return printed(self.what, output)


def printed(what: str, output: str) -> dict:
    """Reads the line that load.lua and `bench paced` print."""
    for line in output.splitlines():
        if line.startswith("RESULT\t"):
            requests, micros, *figures = map(int, line.split("\t")[1:])
            names = ("p50", "p99", "max", "failed")
            figures = dict(zip(names, figures, strict=True))
            return {"requests": requests, "seconds": micros / 1e6, **figures}
    raise Failed(f"{what}: the loader printed no result: {output.strip()}")


class Ghz(Load):
    """Calls GetUser for a thousand different profiles in turn."""

    def __init__(
        self, bench: Bench, address: str, concurrency: int, seconds: float, token: str | None = None
    ):
        ids = bench.folder / "ids.json"
        if not ids.exists():
            numbers = range(1, 10_000, 10)
            ids.write_text(json.dumps([{"id": profile_id(n)} for n in numbers]))
        command = ["ghz", "--insecure", "--call", "user.v1.UserService/GetUser"]
        command += ["--proto", "proto/user/v1/user_service.proto", "--import-paths", "proto"]
        command += [
            "--data-file",
            str(ids),
            "--disable-template-data",
            "--disable-template-functions",
        ]
        command += ["--concurrency", str(concurrency)]
        command += ["--connections", str(min(concurrency, MOST_GRPC_CONNECTIONS))]
        command += [
            "--duration",
            f"{seconds:.0f}s",
            "--duration-stop",
            "ignore",
            "--format",
            "json",
        ]
        if token:
            command += ["--metadata", json.dumps({"authorization": f"Bearer {token}"})]
        super().__init__(bench, f"GetUser at {concurrency} calls", [*command, address], seconds)

    def parse(self, output: str) -> dict:
        report = json.loads(output)
        answered = report["statusCodeDistribution"].get("OK", 0)
        latencies = {
            entry["percentage"]: entry["latency"] for entry in report["latencyDistribution"]
        }
        return {
            "requests": report["count"],
            "seconds": report["total"] / 1e9,
            "p50": round(latencies[50] / 1e3),
            "p99": round(latencies[99] / 1e3),
            "max": round(report["slowest"] / 1e3),
            "failed": report["count"] - answered,
        }


def together(results: list[dict]) -> dict:
    """Several loaders at once as one: the worst of their 99th percentiles, the mean of the medians."""
    return {
        "requests": sum(result["requests"] for result in results),
        "seconds": max(result["seconds"] for result in results),
        "p50": round(sum(result["p50"] for result in results) / len(results)),
        "p99": max(result["p99"] for result in results),
        "max": max(result["max"] for result in results),
        "loader_cpu": sum(result["loader_cpu"] for result in results),
    }
