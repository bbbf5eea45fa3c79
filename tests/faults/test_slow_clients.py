"""Clients that are slow, silent or deaf on purpose: each is cut off in time, and others are served."""

import contextlib
import select
import socket
import threading
import time

from kit import http2
from kit.hostile import Bystander, HostileTest, connect
from kit.http2 import frame


class SlowClients(HostileTest):
    def stalling(self):
        """By name: where each connects, what it sends at first, and what again and again."""
        rest, grpc = self.user_service.http, self.user_service.grpc
        get = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
        put = (
            f"PUT {self.person.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self.person.token}\r\n"
        ).encode()
        sized, chunked = b"Content-Length: 60\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"
        large = b"11170\r\n" + b" " * 0x11170 + b"\r\n"
        preface, no_settings = http2.PREFACE, frame(http2.SETTINGS, 0, 0)
        return {
            "silent": (rest, b"", b""),
            "silent on the gRPC edge": (grpc, b"", b""),
            "a header byte by byte": (rest, get + b"X-Slow: ", b"a"),
            "a header line by line": (rest, get, b"X-A: b\r\n"),
            "half a preface": (rest, preface[:10], b""),
            "half a preface on the gRPC edge": (grpc, preface[:10], b""),
            "a stopped body": (rest, put + sized + b'{"name', b""),
            "a body byte by byte": (rest, put + sized, b" "),
            "a chunked body byte by byte": (rest, put + chunked, b"1\r\n \r\n"),
            "a large body byte by byte": (rest, put + chunked + large, b"1\r\n \r\n"),
            "a gRPC message that never comes": (
                grpc,
                preface + no_settings + self.grpc_request(1),
                b"",
            ),
        }

    def test_whoever_stalls_while_sending_is_cut_off_within_30_seconds(self):
        took, answers = [], {}

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
                        answers[name] = received[:12]
                        break
                took.append((name, time.monotonic() - began))

        # Many of each kind: a bound that holds for one might not for many.
        clients = [(name, *how) for name, how in self.stalling().items() for _ in range(10)]
        with self.others_are_served():
            threads = [
                threading.Thread(target=stall, args=client, daemon=True) for client in clients
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        self.assertEqual(len(clients), len(took))
        self.assertEqual([], [client for client in took if client[1] > 30.5])
        self.assertEqual(b"HTTP/1.1 408", answers["a body byte by byte"])
        # Its size was known before it stalled.
        self.assertEqual(b"HTTP/1.1 413", answers["a large body byte by byte"])

    @staticmethod
    def refuses(received):
        """Whether these bytes are an answer that the request is given up: an error of HTTP/1.1, or the
        end of the first stream of HTTP/2."""
        if received.startswith(b"HTTP/1.1 4"):
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

    def test_whoever_does_not_read_the_answers_is_cut_off(self):
        with connect(self.user_service.http) as sock, self.others_are_served():
            sock.settimeout(2)
            with contextlib.suppress(socket.timeout):
                while True:
                    sock.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
            poll = select.poll()
            poll.register(sock, select.POLLHUP | select.POLLERR | select.POLLRDHUP)
            self.assertTrue(poll.poll(35_000), "it is still connected")

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
