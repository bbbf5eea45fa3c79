"""Floods of HTTP/2 frames, written by hand: each connection is ended or held within bounds, and others
are served."""

import contextlib
import socket
import threading
import time

from kit import http2
from kit.hostile import MIB, HostileTest
from kit.http2 import Connection, fields, frame, request_fields


class Http2Floods(HostileTest):
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

    def test_resets_from_many_connections_do_not_stop_the_service(self):
        cancel = http2.CANCEL.to_bytes(4, "big")

        def attack():
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                with (
                    contextlib.suppress(OSError),
                    Connection(self.user_service.http, 2) as connection,
                ):
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
                        if kind == http2.RST_STREAM and payload == http2.REFUSED_STREAM.to_bytes(
                            4, "big"
                        ):
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
                    threading.Thread(
                        target=self.flood, args=(address, endless(part), 2), daemon=True
                    )
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
                            frame(
                                http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, stream, content
                            )
                        )
                time.sleep(1)
