"""Clients that mean harm: each is cut off or held within bounds, and others are served meanwhile."""

import contextlib
import select
import socket
import threading
import time

from kit import http2
from kit.case import FaultTest
from kit.client import Client
from kit.http2 import Connection, Grpc, fields, frame, request_fields
from kit.services import Person

MIB = 1 << 20
SERVING = b"\x08\x01"
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
            threading.Thread(target=self.work, args=(ask,), daemon=True) for ask in (self.rest, self.grpc)
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


class HostileClients(FaultTest):
    def setUp(self):
        super().setUp()
        self.auth_service, self.user_service = self.on_sqlite()
        self.person = Person(self.auth_service.rest)
        self.assertEqual("200", self.user_service.rest.get(self.person.path, self.person.token).outcome)

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

    # Slow ones.

    def test_whoever_stalls_while_sending_is_cut_off_within_30_seconds(self):
        user, person = self.user_service, self.person
        put = (
            f"PUT {person.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {person.token}\r\n"
            "Content-Type: application/json\r\n"
        )
        stream = frame(
            http2.HEADERS,
            http2.END_HEADERS,
            1,
            request_fields(
                "POST",
                "/user.v1.UserService/GetUser",
                "x",
                content_type="application/grpc",
                te="trailers",
                authorization=f"Bearer {person.token}",
            ),
        )
        settings_frame = frame(http2.SETTINGS, 0, 0)
        # What each sends at first, and then again and again.
        clients = {
            "silent": (user.http, b"", b""),
            "silent on the gRPC edge": (user.grpc, b"", b""),
            "a header byte by byte": (user.http, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"a"),
            "a header line by line": (user.http, b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n"),
            "half a preface": (user.http, http2.PREFACE[:10], b""),
            "half a preface on the gRPC edge": (user.grpc, http2.PREFACE[:10], b""),
            "a stopped body": (user.http, f"{put}Content-Length: 60\r\n\r\n".encode() + b'{"name', b""),
            "a body byte by byte": (user.http, f"{put}Content-Length: 60\r\n\r\n".encode(), b" "),
            "a chunked body byte by byte": (
                user.http,
                f"{put}Transfer-Encoding: chunked\r\n\r\n".encode(),
                b"1\r\n \r\n",
            ),
            "a gRPC message that never comes": (
                user.grpc,
                http2.PREFACE + settings_frame + stream,
                b"",
            ),
        }
        took = {}

        def stall(name, address, first, further):
            with connect(address) as sock:
                sock.sendall(first)
                began = time.monotonic()
                sock.settimeout(1)
                while time.monotonic() - began < 40:
                    try:
                        if further:
                            sock.sendall(further)
                        received = sock.recv(65536)
                    except socket.timeout:
                        continue
                    except ConnectionError:
                        break
                    if not received or self.refuses(received):
                        break
                took[name] = time.monotonic() - began

        with self.others_are_served():
            threads = [
                threading.Thread(target=stall, args=(name, *how), daemon=True)
                for name, how in clients.items()
                # Many of each kind: a bound that holds for one might not for many.
                for _ in range(10)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        self.assertEqual(set(clients), set(took))
        late = {name: seconds for name, seconds in took.items() if seconds > 30.5}
        self.assertEqual({}, late)

    @staticmethod
    def refuses(received):
        """Whether these bytes are an answer that the request is given up: HTTP/1.1's 408, or the end
        of the first stream of HTTP/2."""
        if received.startswith(b"HTTP/1.1 408"):
            return True
        position = 0
        while position + 9 <= len(received):
            length = int.from_bytes(received[position : position + 3], "big")
            kind, flags = received[position + 3], received[position + 4]
            stream = int.from_bytes(received[position + 5 : position + 9], "big")
            ended = kind == http2.HEADERS and flags & http2.END_STREAM
            if stream == 1 and (ended or kind == http2.RST_STREAM):
                return True
            position += 9 + length
        return False

    def test_two_thousand_idle_connections_leave_room_for_others(self):
        with contextlib.ExitStack() as stack, self.others_are_served():
            for number in range(2000):
                address = self.user_service.grpc if number % 4 == 0 else self.user_service.http
                sock = stack.enter_context(connect(address))
                if number % 2:
                    sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(2)

    def test_two_thousand_idle_connections_leave_room_under_the_usual_limit_of_open_files(self):
        # What systemd and a login shell give: 1024 files, and leave to ask for more.
        user = self.user(
            f"sqlite://{self.user_service.log.parent}/other.db",
            self.auth_service,
            what="user-1024",
            limits="--nofile=1024:",
        ).wait_ready()
        with contextlib.ExitStack() as stack, Bystander(user) as bystander:
            # As many as the kernel queues beside those that are accepted: more would wait here.
            for number in range(1200):
                stack.enter_context(connect(user.grpc if number % 3 == 0 else user.http))
            time.sleep(2)
        self.assertEqual([], bystander.wrong[:3])
        self.assertLess(bystander.slowest, 3, "others had to wait")

    # Large ones.

    def test_headers_over_32_kib_are_431(self):
        with self.others_are_served():
            for name, lines in (
                ("one line", b"X-Large: " + b"a" * 40_000 + b"\r\n"),
                ("many lines", b"".join(b"X-%d: %s\r\n" % (n, b"a" * 400) for n in range(90))),
                ("endless lines", b"".join(b"X-%d: a\r\n" % n for n in range(5000))),
            ):
                with self.subTest(name), connect(self.user_service.http, 10) as sock:
                    with contextlib.suppress(ConnectionError):
                        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
                    self.assertEqual(431, status_of(sock))
            for name, address in self.both_edges():
                # Each line is small enough; together they are not.
                content = self.rest_fields(x_large="a" * 8000) + fields([("x-large", "a" * 8000)] * 4)
                with self.subTest(f"HTTP/2, {name}"), Connection(address, 10) as connection:
                    connection.send(
                        frame(http2.HEADERS, http2.END_STREAM, 1, content[:16384])
                        + frame(http2.CONTINUATION, 0, 1, content[16384:32768])
                        + frame(http2.CONTINUATION, http2.END_HEADERS, 1, content[32768:])
                    )
                    for kind, flags, stream, payload in connection.frames():
                        if stream == 1 and kind == http2.HEADERS and flags & http2.END_STREAM:
                            # The status 431 as it is, or in the Huffman code of RFC 7541.
                            self.assertRegex(payload, rb"431|\x69\x90\xff")
                            break
                        if stream == 1 and kind == http2.RST_STREAM:
                            break
                    else:
                        self.fail("the connection ended without an answer")
            with self.subTest("a path"), connect(self.user_service.http, 10) as sock:
                with contextlib.suppress(ConnectionError):
                    sock.sendall(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertIn(status_of(sock), (414, 431))

    def test_a_body_of_100_mb_is_413_before_it_is_sent(self):
        person = self.person
        head = (
            f"PUT {person.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {person.token}\r\n"
            "Content-Type: application/json\r\n"
        )
        with self.others_are_served():
            for name, more, part in (
                ("announced", "Content-Length: 104857600\r\n\r\n", b" " * 65536),
                ("chunked", "Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
            ):
                with self.subTest(name), connect(self.user_service.http, 10) as sock:
                    sock.sendall((head + more).encode())
                    sent = 0
                    sock.settimeout(5)
                    with contextlib.suppress(ConnectionError, socket.timeout):
                        while sent < 100 * MIB and not has_answered(sock):
                            sock.sendall(part)
                            sent += len(part)
                    self.assertEqual(413, status_of(sock), f"after {sent} bytes")
                    # It may take a little more than it keeps, for the client to see the answer.
                    self.assertLess(sent, 16 * MIB)
            with self.subTest("expected"), connect(self.user_service.http, 10) as sock:
                sock.sendall((head + "Expect: 100-continue\r\nContent-Length: 104857600\r\n\r\n").encode())
                self.assertEqual(413, status_of(sock))

    def test_a_grpc_message_of_100_mb_is_refused_before_it_is_sent(self):
        with self.others_are_served(), Grpc(self.user_service.grpc) as client:
            client.send(self.grpc_request(1))
            client.send(frame(http2.DATA, 0, 1, b"\0" + (100 * MIB).to_bytes(4, "big")))
            for kind, flags, stream, _ in client.frames():
                if stream == 1 and (flags & http2.END_STREAM or kind == http2.RST_STREAM):
                    break
            else:
                self.fail("the connection ended without an answer")

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

    # HTTP/2.

    def flood(self, address, frames, seconds=5):
        """Sends what `frames` yields until the server ends the connection or takes no more, reading
        nothing meanwhile. Returns how the server has ended it, and how much it took."""
        with Connection(address, timeout=0.5) as connection:
            deadline, sent, ended = time.monotonic() + seconds, 0, None
            for part in frames:
                try:
                    connection.send(part)
                except (BrokenPipeError, ConnectionError):
                    ended = "closed"
                    break
                except socket.timeout:
                    # It is not read any more: the flood is stopped where it comes from.
                    ended = "not read"
                    break
                sent += len(part)
                if time.monotonic() > deadline:
                    break
            with contextlib.suppress(socket.timeout, OSError):
                for kind, _, _, _ in connection.frames():
                    if kind == http2.GOAWAY:
                        ended = "goaway"
                    if time.monotonic() > deadline + 1:
                        break
            return ended, sent

    def test_rapid_resets_end_the_connection(self):
        for name, address in self.both_edges():
            requests = self.grpc_request if name == "grpc" else self.rest_request
            cancel = http2.CANCEL.to_bytes(4, "big")

            def resets():
                stream = 1
                while stream < 400_000:
                    part = b""
                    for _ in range(100):
                        part += requests(stream, http2.END_HEADERS | http2.END_STREAM)
                        part += frame(http2.RST_STREAM, 0, stream, cancel)
                        stream += 2
                    yield part

            with self.subTest(name), self.others_are_served():
                ended, _ = self.flood(address, resets())
                self.assertIn(ended, ("goaway", "closed"))

    def rest_fields(self, **more):
        return request_fields("GET", "/users", "x", authorization=f"Bearer {self.person.token}", **more)

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

    def test_resets_from_many_connections_do_not_stop_the_service(self):
        cancel = http2.CANCEL.to_bytes(4, "big")

        def attack():
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError), Connection(self.user_service.http, 2) as connection:
                    part = b"".join(
                        self.rest_request(stream, http2.END_HEADERS | http2.END_STREAM)
                        + frame(http2.RST_STREAM, 0, stream, cancel)
                        for stream in range(1, 400, 2)
                    )
                    connection.send(part)
                    connection.read_frame()

        with self.others_are_served():
            threads = [threading.Thread(target=attack, daemon=True) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)

    def test_streams_beyond_256_are_refused(self):
        for name, address in self.both_edges():
            requests = self.grpc_request if name == "grpc" else self.rest_upload
            with self.subTest(name), self.others_are_served(), Connection(address, 1) as connection:
                # None of them ends, so that all are open at once.
                for stream in range(1, 2 * 300, 2):
                    connection.send(requests(stream, http2.END_HEADERS))
                refused, limit = set(), None
                with contextlib.suppress(socket.timeout):
                    for kind, flags, stream, payload in connection.frames():
                        if kind == http2.SETTINGS and not flags & http2.ACK:
                            limit = self.setting(payload, 3)
                        if kind == http2.RST_STREAM and payload == http2.REFUSED_STREAM.to_bytes(4, "big"):
                            refused.add(stream)
                self.assertEqual(256, limit, "SETTINGS_MAX_CONCURRENT_STREAMS")
                self.assertEqual(set(range(513, 600, 2)), refused)

    @staticmethod
    def setting(payload, number):
        for at in range(0, len(payload), 6):
            if int.from_bytes(payload[at : at + 2], "big") == number:
                return int.from_bytes(payload[at + 2 : at + 6], "big")
        return None

    def test_a_header_section_without_end_ends_the_connection(self):
        for name, address in self.both_edges():
            more = fields([("x-flood", "a" * 4000)] * 4)

            def continuations():
                yield self.rest_request(1, 0)
                while True:
                    yield frame(http2.CONTINUATION, 0, 1, more)

            def empty_ones():
                yield self.rest_request(1, 0)
                while True:
                    yield frame(http2.CONTINUATION, 0, 1) * 1000

            for kind, frames in (("large", continuations()), ("empty", empty_ones())):
                with self.subTest(f"{name}, {kind}"), self.others_are_served():
                    ended, sent = self.flood(address, frames)
                    self.assertIn(ended, ("goaway", "closed"))
                    self.assertLess(sent, 8 * MIB)

    def test_floods_of_control_frames_cost_no_memory(self):
        floods = {
            "settings": frame(http2.SETTINGS, 0, 0, b"\0\4\0\0\xff\xff") * 500,
            "ping": frame(http2.PING, 0, 0, b"12345678") * 500,
            "window update": frame(http2.WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 500,
            "priority": frame(http2.PRIORITY, 0, 1, b"\0\0\0\3\0") * 500,
            "unknown": frame(0xFA, 0, 0, b"?" * 100) * 500,
        }

        def endless(part):
            while True:
                yield part

        for name, address in self.both_edges():
            with self.subTest(name), self.others_are_served():
                threads = [
                    threading.Thread(target=self.flood, args=(address, endless(part), 2), daemon=True)
                    for part in floods.values()
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(30)

    def test_a_flood_of_empty_data_frames_costs_no_memory(self):
        for name, address in self.both_edges():
            requests = self.grpc_request if name == "grpc" else self.rest_request

            def empty_ones():
                yield requests(1, http2.END_HEADERS)
                while True:
                    yield frame(http2.DATA, 0, 1) * 500

            with self.subTest(name), self.others_are_served():
                self.flood(address, empty_ones(), seconds=2)

    def test_answers_that_are_not_read_are_bounded(self):
        # No window: the server may send nothing of what it has answered.
        for name, address in self.both_edges():
            with self.subTest(name), self.others_are_served(), contextlib.ExitStack() as stack:
                for _ in range(10):
                    connection = stack.enter_context(Connection(address))
                    connection.send(frame(http2.SETTINGS, 0, 0, b"\0\4\0\0\0\0"))
                    content = request_fields("GET", "/openapi.json", "x")
                    for stream in range(1, 400, 2):
                        connection.send(
                            frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, stream, content)
                        )
                time.sleep(1)
