"""HTTP/2 by hand (RFC 9113, RFC 7541): frames as no well-behaved library would send them, and the
little of gRPC that the tests need."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

(
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
) = range(10)
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4

NO_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0x0, 0x7, 0x8, 0xB


def frame(kind, flags, stream, payload=b""):
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def integer(value, prefix_bits, first=0):
    """An integer of RFC 7541, section 5.1."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def fields(pairs):
    """A field section in which everything is literal and nothing is remembered."""
    out = b""
    for name, value in pairs:
        name, value = name.encode(), value.encode()
        out += b"\0" + integer(len(name), 7) + name + integer(len(value), 7) + value
    return out


def request_fields(method, path, authority, **more):
    """The field section of a request; underscores in names stand for hyphens."""
    pseudo = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
    return fields(pseudo + [(name.replace("_", "-"), value) for name, value in more.items()])


class Connection:
    """A connection on which the preface and our SETTINGS have been sent."""

    def __init__(self, address, timeout=20):
        self.address = address
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        # The kinds of frames that have been read.
        self.seen = set()
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, content):
        """Sends bytes as they are."""
        self.socket.sendall(content)

    def read_frame(self):
        """The next frame as (kind, flags, stream, payload), or None at the connection's end."""
        head = self._read(9)
        if head is None:
            return None
        length = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = self._read(length)
        return None if payload is None else (kind, flags, stream & 0x7FFFFFFF, payload)

    def _read(self, length):
        while len(self.buffer) < length:
            try:
                received = self.socket.recv(65536)
            except ConnectionError:
                received = b""
            if not received:
                return None
            self.buffer += received
        content, self.buffer = self.buffer[:length], self.buffer[length:]
        return content

    def frames(self):
        """All frames until the connection ends; SETTINGS and PING are answered."""
        while (received := self.read_frame()) is not None:
            kind, flags, _, payload = received
            self.seen.add(kind)
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.send(frame(kind, ACK, 0, payload if kind == PING else b""))
            yield received


class Grpc(Connection):
    """A gRPC client for one call at a time."""

    def __init__(self, address, timeout=20):
        super().__init__(address, timeout)
        self.stream = 1

    def begin(self, path, message, metadata=None):
        """Starts a call with its only message, and returns its stream."""
        stream, self.stream = self.stream, self.stream + 2
        pairs = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", self.address),
            (":path", path),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *(metadata or {}).items(),
        ]
        body = b"\0" + struct.pack(">I", len(message)) + message
        self.send(
            frame(HEADERS, END_HEADERS, stream, fields(pairs))
            + frame(DATA, END_STREAM, stream, body)
        )
        return stream

    def messages(self, stream):
        """The messages of an answer, each as it comes, until the answer ends."""
        content = b""
        for kind, flags, of, payload in self.frames():
            if of != stream:
                continue
            if kind == DATA:
                content += payload
            while len(content) >= 5 and len(content) >= 5 + int.from_bytes(content[1:5], "big"):
                length = int.from_bytes(content[1:5], "big")
                yield content[5 : 5 + length]
                content = content[5 + length :]
            if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
                return
        raise ConnectionError("the connection ended before the answer")

    def call(self, path, message, metadata=None):
        """The messages of the answer: none for an error."""
        return list(self.messages(self.begin(path, message, metadata)))


def text_field(number, text):
    """A field of protobuf that holds a text."""
    content = text.encode()
    return integer(number << 3 | 2, 8) + _varint(len(content)) + content


def _varint(value):
    out = []
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])
