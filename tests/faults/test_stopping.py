"""SIGTERM in the middle of something: it finishes, and the process ends with status 0."""

import signal
import socket
import threading
import time

from kit.case import FaultTest
from kit.client import Client
from kit.http2 import GOAWAY, Grpc
from kit.services import Person, credentials

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def in_background(action):
    """Runs `action` in a thread; the result is what `join` returns."""
    thread = threading.Thread(target=lambda: setattr(thread, "result", action()), daemon=True)
    thread.result = None
    thread.start()
    return thread


class Upload:
    """A PUT whose body is sent bit by bit."""

    def __init__(self, address, person, body):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), 20)
        self.rest = body
        head = (
            f"PUT {person.path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {person.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.socket.sendall(head.encode())

    def send(self, count):
        part, self.rest = self.rest[:count], self.rest[count:]
        self.socket.sendall(part)

    def status(self):
        """The status of the answer, or that there is none."""
        try:
            line = self.socket.makefile("rb").readline()
        except ConnectionError:
            return None
        return int(line.split()[1]) if line else None


class Stopping(FaultTest):
    def setUp(self):
        super().setUp()
        self.auth_service, self.user_service = self.on_sqlite(SHUTDOWN_GRACE="6")
        self.person = Person(self.auth_service.rest)

    def ended(self, service, within):
        began = time.monotonic()
        self.assertEqual(0, service.ends(within + 5), service.tail())
        self.assertLess(time.monotonic() - began, within, service.tail())

    def test_a_login_that_is_being_hashed_is_answered(self):
        auth = self.auth_service
        # A slower hash than the other tests have, so that it is under way when the signal comes.
        auth.stop()
        auth.environment["BCRYPT_COST"] = "13"
        auth.start().wait_ready()
        slow = Person(auth.rest)
        login = in_background(
            lambda: Client(auth.http).post("/auth/login", credentials(slow.email))
        )
        time.sleep(0.2)
        self.assertIsNone(login.result, "the login was too fast for this test")
        auth.send(signal.SIGTERM)
        login.join(20)
        self.assertEqual("200", login.result.outcome)
        self.ended(auth, within=3)

    def test_a_slow_upload_is_answered(self):
        upload = Upload(self.user_service.http, self.person, b'{"name":"slow","bio":"upload"}')
        upload.send(10)
        time.sleep(0.2)
        self.user_service.send(signal.SIGTERM)
        for _ in range(4):
            time.sleep(0.5)
            self.assertTrue(self.user_service.is_running(), "it did not wait for the upload")
            upload.send(5)
        self.assertEqual(b"", upload.rest)
        self.assertEqual(200, upload.status())
        self.ended(self.user_service, within=2)

    def test_an_upload_that_never_ends_is_cut_off_when_the_grace_is_over(self):
        upload = Upload(self.user_service.http, self.person, b'{"name":"slow","bio":"upload"}')
        upload.send(10)
        time.sleep(0.2)
        self.user_service.send(signal.SIGTERM)
        self.ended(self.user_service, within=6 + 2)
        self.assertIsNone(upload.status())

    def test_a_health_watch_is_told_and_does_not_keep_the_process(self):
        for service in (self.auth_service, self.user_service):
            with Grpc(service.grpc) as grpc:
                states = grpc.messages(grpc.begin("/grpc.health.v1.Health/Watch", b""))
                self.assertEqual(SERVING, next(states))
                service.send(signal.SIGTERM)
                self.assertEqual(NOT_SERVING, next(states), "draining was not told")
                self.assertEqual([], list(states), "more than the end of the stream")
                # A client goes on answering the server's pings until the end.
                self.assertEqual([], [stream for _, _, stream, _ in grpc.frames() if stream])
                self.ended(service, within=3)
                self.assertIn(GOAWAY, grpc.seen)

    def test_idle_connections_do_not_keep_the_process(self):
        for service in (self.auth_service, self.user_service):
            client = Client(service.http)
            self.assertEqual("200", client.get("/livez").outcome)
            silent = socket.create_connection(service.http.rsplit(":", 1), 20)
            with silent, Grpc(service.grpc) as grpc:
                self.assertEqual([SERVING], grpc.call("/grpc.health.v1.Health/Check", b""))
                # A client of HTTP/2 answers the server's pings, also while it has nothing to ask.
                reader = in_background(lambda: list(grpc.frames()))
                service.send(signal.SIGTERM)
                self.ended(service, within=3)
                reader.join(5)
                self.assertIn(GOAWAY, grpc.seen)

    def test_a_peer_that_answers_no_ping_keeps_the_process_for_the_grace_at_most(self):
        with Grpc(self.auth_service.grpc) as grpc:
            self.assertEqual([SERVING], grpc.call("/grpc.health.v1.Health/Check", b""))
            self.auth_service.send(signal.SIGTERM)
            self.ended(self.auth_service, within=6 + 2)

    def test_it_is_not_ready_from_the_signal_on_while_a_request_is_under_way(self):
        service = self.user_service
        # An upload that is under way on this connection's neighbour keeps the process.
        upload = Upload(service.http, self.person, b'{"name":"slow","bio":"upload"}')
        upload.send(10)
        probes = Client(service.http)
        self.assertEqual("200", probes.get("/readyz").outcome)
        service.send(signal.SIGTERM)
        time.sleep(0.1)
        for _ in range(10):
            # Refused, or answered on a connection that was open.
            self.assertIn(probes.get("/readyz").outcome, ("503", "no answer"))
            self.assertIn(Client(service.http).get("/readyz").outcome, ("503", "no answer"))
        self.assertTrue(service.is_running())
        upload.send(100)
        self.assertEqual(200, upload.status())
        self.ended(service, within=2)

    def test_whoever_connects_before_it_is_seen_to_be_not_ready_gets_an_answer(self):
        # As a proxy does it: new connections all the time, until its check sees that the service is
        # not ready. What a service has taken and not answered a proxy may not send to another one.
        request = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for service in (self.auth_service, self.user_service):
            for _ in range(5):
                answers, seen = [], threading.Event()

                def ask():
                    while not seen.is_set():
                        try:
                            with socket.create_connection(service.http.rsplit(":", 1), 10) as sock:
                                sock.sendall(request)
                                answers.append(sock.recv(12))
                        except OSError as error:
                            answers.append(repr(error).encode())

                def check():
                    while Client(service.http).get("/readyz").status == 200:
                        time.sleep(0.2)
                    seen.set()

                threads = [in_background(action) for action in (*[ask] * 8, check)]
                time.sleep(0.3)
                service.send(signal.SIGTERM)
                for thread in threads:
                    thread.join(20)
                self.ended(service, within=4)
                self.assertGreater(len(answers), 20)
                self.assertEqual({b"HTTP/1.1 200"}, set(answers))
                service.start().wait_ready()

    def test_a_second_signal_ends_it_at_once(self):
        service = self.user_service
        upload = Upload(service.http, self.person, b'{"name":"slow","bio":"upload"}')
        upload.send(10)
        time.sleep(0.2)
        service.send(signal.SIGTERM)
        time.sleep(0.3)
        self.assertTrue(service.is_running())
        began = time.monotonic()
        service.send(signal.SIGTERM)
        self.assertEqual(130, service.ends(5))
        self.assertLess(time.monotonic() - began, 1)

    def test_sigint_stops_it_as_sigterm_does(self):
        for service in (self.auth_service, self.user_service):
            service.send(signal.SIGINT)
            self.ended(service, within=3)
