"""A proxy in front of one service that lets a part of an answer through and then cuts the connection."""

import socket
import struct
import threading

from kit.process import free_port


class CuttingProxy:
    """Passes on what clients send. Of each answer the first `most` bytes arrive, and then the connection
    ends as one that a phone loses in a tunnel does. None: everything arrives."""

    def __init__(self, address):
        self.target = address
        self.most = None
        self.address = f"127.0.0.1:{free_port()}"
        host, port = self.address.split(":")
        self.listener = socket.create_server((host, int(port)))
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client, self.most), daemon=True).start()

    def serve(self, client, most):
        host, port = self.target.split(":")
        with client, socket.create_connection((host, int(port)), 30) as server:
            sending = threading.Thread(target=copy, args=(client, server), daemon=True)
            sending.start()
            left = most
            while left is None or left > 0:
                try:
                    part = server.recv(65536 if left is None else min(left, 65536))
                except OSError:
                    return
                if not part:
                    return
                client.sendall(part)
                left = left and left - len(part)
            # The service has answered before its client is cut off: the first byte has been seen here,
            # or is waited for.
            if most == 0:
                server.recv(1)
            # A socket that is still read from is not closed.
            client.shutdown(socket.SHUT_RD)
            sending.join(10)
            reset(client)


def copy(source, target):
    """Passes on what is sent, until either end is closed."""
    try:
        while part := source.recv(65536):
            target.sendall(part)
    except OSError:
        pass


def reset(client):
    """Ends a connection without a goodbye, so that nothing more arrives."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
