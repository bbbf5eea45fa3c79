"""A test case that ends what it starts."""

import itertools
import pathlib
import unittest

from kit import settings
from kit.postgres import Postgres
from kit.services import Secrets, auth_service, shared_secret, user_service

_numbers = itertools.count(1)


class FaultTest(unittest.TestCase):
    """Ends its processes, and fails if a service panicked or blamed itself in its log."""

    def setUp(self):
        self.number = next(_numbers)
        self.known = Secrets()
        self.services = []

    def name(self, what):
        """A name that no other test has."""
        module = type(self).__module__.removeprefix("test_")
        return f"{module}-{self.number}-{what}"

    def postgres(self, what="postgres", **options):
        """A running Postgres of this test's own."""
        server = Postgres(self.name(what))
        # Before it starts: a start can fail when the process is there already.
        self.addCleanup(server.remove)
        return server.start(**options)

    def keep(self, service):
        """Sees to the end of a service, and looks into its log."""
        self.services.append(service)
        self.addCleanup(self._look_into, service)
        self.addCleanup(service.kill)
        return service

    def _look_into(self, service):
        if lines := service.panics():
            self.fail(f"{service.name} blames itself:\n" + "\n".join(lines[:5]))

    def auth(self, url, what="auth", **more):
        """A replica of the auth service, started."""
        return self.keep(auth_service(self.name(what), url, self.known, **more)).start()

    def user(self, url, auth, what="user", **more):
        """A replica of the user service, started."""
        return self.keep(user_service(self.name(what), url, self.known, auth, **more)).start()

    def pair(self, auth_url, user_url, own_tokens=False, **more):
        """Both services, ready. With `own_tokens` the test issues tokens itself."""
        signing, validating = shared_secret(self.known) if own_tokens else ({}, {})
        auth = self.auth(auth_url, **signing, **more)
        user = self.user(user_url, auth, **validating, **more)
        return auth.wait_ready(), user.wait_ready()

    def on_postgres(self, server, **more):
        """Both services on one Postgres, ready."""
        return self.pair(server.url("auth"), server.url("user"), **more)

    def on_sqlite(self, folder=None, **more):
        """Both services on files in one folder, ready."""
        folder = pathlib.Path(folder or settings.WORK / self.name("files"))
        folder.mkdir(exist_ok=True)
        return self.pair(f"sqlite://{folder}/auth.db", f"sqlite://{folder}/user.db", **more)
