"""Requests that are too large: refused early, and at no cost for others."""

import contextlib
import socket

from kit import http2
from kit.hostile import MIB, HostileTest, connect, has_answered, status_of
from kit.http2 import Connection, Grpc, fields, frame


class LargeRequests(HostileTest):
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
                content = self.rest_fields(x_large="a" * 8000) + fields(
                    [("x-large", "a" * 8000)] * 4
                )
                with self.subTest(f"HTTP/2, {name}"), Connection(address, 10) as connection:
                    connection.send(
                        frame(http2.HEADERS, http2.END_STREAM, 1, content[:16384])
                        + frame(http2.CONTINUATION, 0, 1, content[16384:32768])
                        + frame(http2.CONTINUATION, http2.END_HEADERS, 1, content[32768:])
                    )
                    for kind, _, stream, payload in connection.frames():
                        if stream == 1 and kind == http2.HEADERS:
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
                (
                    "chunked",
                    "Transfer-Encoding: chunked\r\n\r\n",
                    b"10000\r\n" + b" " * 65536 + b"\r\n",
                ),
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
                sock.sendall(
                    (head + "Expect: 100-continue\r\nContent-Length: 104857600\r\n\r\n").encode()
                )
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
