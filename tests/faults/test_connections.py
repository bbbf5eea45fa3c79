"""What one client can take of a service by its connections: memory, and the places of others."""

import contextlib
import os
import sqlite3
import threading
import time

from kit import http2
from kit.client import Client
from kit.hostile import MIB, Bystander, HostileTest
from kit.http2 import Connection, Grpc, frame
from kit.process import free_port


class Connections(HostileTest):
    def test_large_messages_of_unknown_callers_are_not_kept(self):
        # Each announces 4 MiB and never ends, on one connection, with a deadline in the far future.
        for service, path in (
            (self.user_service, "/user.v1.UserService/GetUser"),
            (self.auth_service, "/auth.v1.AuthService/IntrospectToken"),
            (self.auth_service, "/auth.v1.AuthService/Login"),
        ):
            with self.subTest(path), Grpc(service.grpc) as client, self.others_are_served():
                service.forget_peak()
                before = service.resident(peak=True)
                head = http2.fields(
                    [
                        (":method", "POST"),
                        (":scheme", "http"),
                        (":authority", service.grpc),
                        (":path", path),
                        ("content-type", "application/grpc"),
                        ("te", "trailers"),
                        ("grpc-timeout", "99999999H"),
                    ]
                )
                with contextlib.suppress(ConnectionError):
                    for stream in range(1, 2 * 200, 2):
                        client.send(
                            frame(http2.HEADERS, http2.END_HEADERS, stream, head)
                            + frame(http2.DATA, 0, stream, b"\0" + (4 * MIB).to_bytes(4, "big"))
                        )
                ended = set()
                client.socket.settimeout(5)
                for kind, flags, stream, _ in client.frames():
                    if stream and (flags & http2.END_STREAM or kind == http2.RST_STREAM):
                        ended.add(stream)
                    if len(ended) == 200:
                        break
                # Or the whole connection, which has sent too much to streams that were over.
                self.assertTrue(len(ended) == 200 or http2.GOAWAY in client.seen)
                self.assertLess(service.resident(peak=True) - before, 20)

    def test_a_long_list_of_revocations_that_nobody_reads_is_not_kept_for_each_who_asks(self):
        service = self.auth_service
        file = service.environment["DATABASE_URL"].removeprefix("sqlite://")
        with contextlib.closing(sqlite3.connect(file, timeout=10)) as database, database:
            until = (time.time_ns() // 1000) + 3_600_000_000
            database.executemany(
                "INSERT INTO revocations (position, nonce, session, until) VALUES (?, ?, ?, ?)",
                ((n, os.urandom(8), os.urandom(32), until) for n in range(1, 10_001)),
            )
        path = "/.well-known/revocations"
        page = service.rest.get(path).json
        self.assertEqual((2500, True), (len(page["entries"]), page["more"]))
        with Connection(service.http, timeout=90) as connection:
            with self.others_are_served(service):
                connection.send(frame(http2.SETTINGS, 0, 0, b"\0\4\0\0\0\0"))
                content = http2.request_fields("GET", path, "x")
                ended = http2.END_HEADERS | http2.END_STREAM
                for stream in range(1, 2 * 200, 2):
                    connection.send(frame(http2.HEADERS, ended, stream, content))
                time.sleep(3)
        # Whoever reads is served.
        self.assertEqual(page, service.rest.get(path).json)

    def test_idle_connections_keep_nobody_out(self):
        admin = f"127.0.0.1:{free_port()}"
        user = self.user(
            f"sqlite://{self.user_service.log.parent}/idle.db",
            self.auth_service,
            what="user-idle",
            limits="--nofile=256:256",
            ADMIN_ADDR=admin,
        ).wait_ready()
        with contextlib.ExitStack() as stack:
            # More than there are places; each answers the server's pings as a good client does.
            for _ in range(300):
                connection = stack.enter_context(Connection(user.http, timeout=120))
                answers = threading.Thread(target=lambda c=connection: self.follow(c), daemon=True)
                answers.start()
            with Bystander(user) as bystander:
                for _ in range(20):
                    self.assertEqual("200", Client(admin).get("/livez").outcome)
                    self.assertEqual("200", Client(admin).get("/readyz").outcome)
                    time.sleep(0.1)
            self.assertEqual([], bystander.wrong[:3])

    def test_an_idle_http2_connection_is_closed_with_a_goodbye(self):
        with Connection(self.user_service.http, timeout=90) as connection:
            began = time.monotonic()
            self.follow(connection)
            self.assertIn(http2.GOAWAY, connection.seen)
            self.assertLess(time.monotonic() - began, 75)

    def test_whoever_never_reads_an_answer_is_cut_off_although_it_answers_pings(self):
        with Connection(self.user_service.http, timeout=90) as connection:
            connection.send(frame(http2.SETTINGS, 0, 0, b"\0\4\0\0\0\0"))
            content = http2.request_fields("GET", "/livez", "x")
            ended = http2.END_HEADERS | http2.END_STREAM
            connection.send(frame(http2.HEADERS, ended, 1, content))
            began = time.monotonic()
            self.follow(connection)
            self.assertLess(time.monotonic() - began, 50)

    @staticmethod
    def follow(connection):
        """Answers what has to be answered, until the connection ends."""
        with contextlib.suppress(OSError):
            for _ in connection.frames():
                pass

    def test_probes_are_answered_while_every_place_is_busy(self):
        admin = f"127.0.0.1:{free_port()}"
        user = self.user(
            f"sqlite://{self.user_service.log.parent}/busy.db",
            self.auth_service,
            what="user-busy",
            limits="--nofile=256:256",
            ADMIN_ADDR=admin,
        ).wait_ready()
        with contextlib.ExitStack() as stack:
            # A Watch is a request under way, and may be for as long as its client wants.
            for _ in range(120):
                with contextlib.suppress(OSError):
                    client = stack.enter_context(Grpc(user.grpc, timeout=5))
                    client.begin("/grpc.health.v1.Health/Watch", b"")
            for _ in range(10):
                self.assertEqual("200", Client(admin).get("/livez").outcome)
            self.assertEqual("200", Client(user.http).get("/livez").outcome)
