"""A client of the REST edges."""

import http.client
import json
import select
import threading
import time


class Answer:
    """An answer, or that there was none."""

    def __init__(self, status, headers, body, took, error=None):
        self.status = status
        self.headers = headers
        self.body = body
        self.took = took
        self.error = error

    @property
    def json(self):
        """The body as JSON; an empty object where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    @property
    def outcome(self):
        """Such as "200", "503 database_unavailable" or "no answer"."""
        if self.status is None:
            return "no answer"
        code = self.json.get("code") if self.status >= 400 else None
        return f"{self.status} {code}" if code else str(self.status)

    def __repr__(self):
        return f"{self.outcome} after {self.took:.2f} s ({self.error or self.body[:300]!r})"


class Client:
    """Sends requests to one address. Every thread has a connection of its own, which it keeps."""

    def __init__(self, address, timeout=30):
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)
        self.timeout = timeout
        self.connections = threading.local()

    def request(self, method, path, body=None, token=None, headers=None):
        """One request. An answer that does not come is an answer without a status."""
        fields = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            fields.setdefault("Content-Type", "application/json")
        if token:
            fields["Authorization"] = f"Bearer {token}"
        began = time.monotonic()
        connection = self._connection()
        try:
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return Answer(None, {}, b"", time.monotonic() - began, error=repr(error))
        took = time.monotonic() - began
        return Answer(response.status, response.headers, content, took)

    def _connection(self):
        connection = getattr(self.connections, "own", None)
        if connection is None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
            self.connections.own = connection
        elif connection.sock is not None and _is_closed(connection.sock):
            # The server has ended it meanwhile, as it may. A client that sends into it all the same
            # cannot know whether its request was seen.
            connection.close()
        return connection

    def get(self, path, token=None, **options):
        """A GET."""
        return self.request("GET", path, token=token, **options)

    def post(self, path, body, token=None, **options):
        """A POST of JSON."""
        return self.request("POST", path, body, token, **options)

    def put(self, path, body, token=None, **options):
        """A PUT of JSON."""
        return self.request("PUT", path, body, token, **options)

    def patch(self, path, body, token=None, **options):
        """A PATCH of JSON."""
        return self.request("PATCH", path, body, token, **options)

    def delete(self, path, token=None, **options):
        """A DELETE."""
        return self.request("DELETE", path, token=token, **options)


def _is_closed(sock):
    """Whether the other end has ended a connection on which nothing is awaited."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
