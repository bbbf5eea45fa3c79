"""CoreDNS with a zone that a test can change."""

import os
import signal
import socket
import struct

from kit import settings
from kit.process import Process, free_port
from kit.wait import until

ZONE = "auth.test"


class Dns:
    """A name server of the zone auth.test, and of nothing else."""

    def __init__(self, name):
        self.port = free_port()
        self.folder = settings.WORK / name
        self.folder.mkdir(mode=0o755)
        self.serial = 0
        self.records = []
        (self.folder / "Corefile").write_text(
            f"{ZONE}:{self.port} {{\n  bind 127.0.0.1\n"
            f"  file {self.folder}/zone {{\n    reload 200ms\n  }}\n  errors\n}}\n"
        )
        self.set()
        command = [settings.COREDNS, "-conf", self.folder / "Corefile"]
        self.process = Process(command, self.folder / "log")

    @property
    def address(self):
        """What DNS_SERVERS says."""
        return f"127.0.0.1:{self.port}"

    def start(self):
        """Starts it and waits until it answers."""
        self.process.start()
        until(lambda: self.serial_served() == self.serial, 10, self.process.tail)
        return self

    def set(self, *records):
        """Replaces the records of the zone, such as "@ A 127.0.0.11". They count for a second."""
        self.serial += 1
        self.records = records
        lines = [
            "$TTL 1",
            f"$ORIGIN {ZONE}.",
            f"@ SOA ns.{ZONE}. nobody.{ZONE}. {self.serial} 60 60 60 1",
            "@ NS ns",
            "ns A 127.0.0.1",
            *records,
        ]
        # At once whole, since it may be read at any time.
        new = self.folder / "zone.new"
        new.write_text("\n".join(lines) + "\n")
        os.replace(new, self.folder / "zone")

    def change(self, *records):
        """Replaces the records, and waits until they are served."""
        self.set(*records)
        until(lambda: self.serial_served() == self.serial, 10, "the zone is served")

    def serial_served(self):
        """The serial number of the zone that is served; None where nothing answers."""
        name = b"".join(bytes([len(part)]) + part.encode() for part in ZONE.split(".")) + b"\0"
        question = struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + name + struct.pack(">2H", 6, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(0.5)
            try:
                asker.connect(("127.0.0.1", self.port))
                asker.send(question)
                answer = asker.recv(4096)
            except OSError:
                return None
        # The last five numbers of an SOA record; the authority section names the NS after it.
        at = answer.find(struct.pack(">4I", 60, 60, 60, 1))
        return struct.unpack(">I", answer[at - 4 : at])[0] if at > 4 else None

    def pause(self):
        """Lets it hang: no question is answered or refused."""
        self.process.send(signal.SIGSTOP)

    def go_on(self):
        """Ends a pause."""
        self.process.send(signal.SIGCONT)

    def remove(self):
        """Ends it."""
        self.process.kill()


class Blackhole:
    """An address that answers no connection, as that of a machine that is gone: its queue is full."""

    def __init__(self, host, port):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(0)
        self.waiting = []
        for _ in range(4):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex((host, port))
            self.waiting.append(connection)

    def close(self):
        """Frees the address."""
        for connection in [*self.waiting, self.listener]:
            connection.close()
