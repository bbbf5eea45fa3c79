"""Clients that mean harm, and somebody who goes on using the service meanwhile."""

import contextlib
import select
import socket
import threading
import time

from kit import http2
from kit.case import FaultTest
from kit.client import Client
from kit.http2 import Grpc, frame, request_fields
from kit.services import Person

SERVING = b"\x08\x01"
MIB = 1 << 20
MOST_GROWTH = 50  # MiB


def connect(address, timeout=40):
    """A plain connection."""
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout)


def status_of(sock):
    """The status of the answer on an HTTP/1.1 connection, or None at its end."""
    try:
        line = sock.makefile("rb").readline()
    except (ConnectionError, socket.timeout):
        return None
    return int(line.split()[1]) if line else None


def has_answered(sock):
    """Whether something can be read."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class Bystander:
    """Somebody who goes on using a service, and is let down by nothing."""

    def __init__(self, service, person=None):
        self.service = service
        self.person = person
        self.stopping = threading.Event()
        self.wrong = []
        self.slowest = 0.0
        self.count = 0
        self.threads = [
            threading.Thread(target=self.work, args=(ask,), daemon=True)
            for ask in (self.rest, self.grpc)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def work(self, ask):
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                ask()
            except Exception as error:
                self.wrong.append(repr(error))
            self.count += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(0.1)

    def rest(self):
        # A new connection each time: there must be a place for it.
        client = Client(self.service.http, timeout=15)
        answer = client.get("/readyz")
        if answer.status == 200 and self.person:
            answer = client.get(self.person.path, self.person.token)
        if answer.status != 200:
            self.wrong.append(repr(answer))

    def grpc(self):
        with Grpc(self.service.grpc, timeout=15) as client:
            messages = client.call("/grpc.health.v1.Health/Check", b"")
        if messages != [SERVING]:
            self.wrong.append(f"health: {messages}")


class HostileTest(FaultTest):
    """A test of the user service, at which the test itself is the harm."""

    def setUp(self):
        super().setUp()
        self.auth_service, self.user_service = self.on_sqlite()
        self.person = Person(self.auth_service.rest)
        self.assertEqual(
            "200", self.user_service.rest.get(self.person.path, self.person.token).outcome
        )

    @contextlib.contextmanager
    def others_are_served(self, service=None):
        """Meanwhile others are served in time, and the service's memory is bounded."""
        service = service or self.user_service
        service.forget_peak()
        before = service.resident()
        with Bystander(service, self.person if service is self.user_service else None) as bystander:
            time.sleep(0.3)
            yield bystander
        self.assertEqual([], bystander.wrong[:3])
        self.assertGreater(bystander.count, 2)
        self.assertLess(bystander.slowest, 3, "others had to wait")
        self.assertTrue(service.is_running())
        self.assertLess(service.resident(peak=True) - before, MOST_GROWTH, "MiB of growth")

    def both_edges(self):
        """The addresses that speak HTTP/2."""
        return (("rest", self.user_service.http), ("grpc", self.user_service.grpc))

    def grpc_request(self, stream, flags=http2.END_HEADERS):
        content = request_fields(
            "POST",
            "/user.v1.UserService/GetUser",
            "x",
            content_type="application/grpc",
            te="trailers",
            authorization=f"Bearer {self.person.token}",
        )
        return frame(http2.HEADERS, flags, stream, content)

    def rest_fields(self, **more):
        return request_fields(
            "GET", "/users", "x", authorization=f"Bearer {self.person.token}", **more
        )

    def rest_request(self, stream, flags=http2.END_HEADERS):
        return frame(http2.HEADERS, flags, stream, self.rest_fields())

    def rest_upload(self, stream, flags=http2.END_HEADERS):
        content = request_fields(
            "PUT",
            self.person.path,
            "x",
            content_type="application/json",
            authorization=f"Bearer {self.person.token}",
        )
        return frame(http2.HEADERS, flags, stream, content)
