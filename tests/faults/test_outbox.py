"""A deletion that was acknowledged arrives at the auth service, whatever is away meanwhile."""

import signal
import time

from kit.case import FaultTest
from kit.client import Client
from kit.services import Person, credentials, is_active
from kit.wait import until

# "Within seconds of the auth service being reachable."
SECONDS = 8


class Outbox(FaultTest):
    def delete(self, user, person):
        """Deletes a profile, which needs the user service alone."""
        client = Client(user.http)
        self.assertEqual("200", client.get(person.path, person.token).outcome)
        deleted = client.delete(person.path, person.token)
        self.assertEqual("204", deleted.outcome)
        self.assertLess(deleted.took, 2)

    def assert_gone(self, auth, people, seconds=SECONDS):
        began = time.monotonic()
        for person in people:
            left = max(0.1, began + seconds - time.monotonic())
            until(
                lambda: not is_active(auth, self.known, person.token), left, "the account is gone"
            )
        for person in people[:3]:
            login = Client(auth.http).post("/auth/login", credentials(person.email))
            self.assertEqual("401 invalid_credentials", login.outcome)

    def test_both_services_killed_after_a_deletion_that_the_auth_service_has_not_heard_of(self):
        for engine in ("sqlite", "postgres"):
            with self.subTest(engine):
                if engine == "sqlite":
                    auth, user = self.on_sqlite()
                else:
                    auth, user = self.on_postgres(self.postgres())
                people = [Person(auth.rest) for _ in range(5)]
                auth.kill()
                for person in people:
                    self.delete(user, person)
                user.kill()
                auth.start().wait_ready()
                for person in people:
                    self.assertTrue(is_active(auth, self.known, person.token), "who told it?")
                user.start()
                self.assert_gone(auth, people)
                # The token still lives, and brings nothing back.
                user.wait_ready()
                refused = Client(user.http).get(people[0].path, people[0].token)
                self.assertEqual("401 account_deleted", refused.outcome)

    def test_an_auth_service_that_comes_back_after_many_deletions_hears_of_all_within_seconds(self):
        auth, user = self.on_sqlite()
        people = [Person(auth.rest) for _ in range(15)]
        auth.kill()
        for person in people:
            self.delete(user, person)
        # Long enough for delays between the attempts to have grown.
        time.sleep(6)
        auth.start().wait_ready()
        self.assert_gone(auth, people)

    def test_an_auth_service_that_hangs_hears_of_it_when_it_goes_on(self):
        auth, user = self.on_sqlite()
        people = [Person(auth.rest) for _ in range(3)]
        auth.send(signal.SIGSTOP)
        try:
            for person in people:
                self.delete(user, person)
            # Longer than the answer to one attempt is waited for.
            time.sleep(6)
        finally:
            auth.send(signal.SIGCONT)
        self.assert_gone(auth, people)

    def test_a_replica_takes_over_from_one_that_was_killed_while_it_delivered(self):
        server = self.postgres()
        auth, user = self.on_postgres(server)
        other = self.user(server.url("user"), auth, what="user-2").wait_ready()
        person = Person(auth.rest)
        auth.send(signal.SIGSTOP)
        try:
            # Whoever deletes looks at the outbox at once.
            self.delete(user, person)
            taken = "SELECT attempts FROM outbox"
            until(lambda: server.query(taken, "users") == "1", 5, "the entry is taken")
            user.kill()
        finally:
            auth.send(signal.SIGCONT)
        self.assert_gone(auth, [person], seconds=20)
        until(lambda: server.query("SELECT count(*) FROM outbox", "users") == "0", 5, "it is empty")
        self.assertTrue(other.is_running())

    def test_an_auth_service_whose_database_is_away_is_told_again(self):
        auth_server, user_server = self.postgres("auth-postgres"), self.postgres("user-postgres")
        auth, user = self.pair(auth_server.url("auth"), user_server.url("user"))
        person = Person(auth.rest)
        auth_server.kill()
        self.delete(user, person)
        time.sleep(3)
        auth_server.start()
        auth.wait_ready(10)
        self.assert_gone(auth, [person])
