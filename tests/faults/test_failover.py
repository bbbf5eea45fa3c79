"""A primary that is lost while its standby takes over: nothing acknowledged is lost, and the services
find the new primary by themselves."""

import time

from kit.services import Person
from kit.wait import until
from kit.witness import WitnessTest, Writers

AWAY = "503 database_unavailable"


class Failover(WitnessTest):
    def setUp(self):
        super().setUp()
        # A commit is acknowledged when the standby has it too.
        self.primary = self.postgres("primary", synchronous_standby_names="*")
        self.standby = self.primary.standby(self.name("standby"))
        self.addCleanup(self.standby.remove)
        self.standby.start()
        until(
            lambda: self.primary.query("SELECT sync_state FROM pg_stat_replication") == "sync",
            10,
            "the standby follows",
        )
        self.auth_service, self.user_service = self.pair(
            self.url("auth"), self.url("user"), own_tokens=True, **self.LIMITS
        )

    def url(self, service):
        """Both servers; which one is the primary is for the service to find out."""
        both = f"{self.primary.address},{self.standby.address}"
        return self.primary.url(service, both) + "?target_session_attrs=read-write"

    def fail_over(self, lose):
        """Loses the primary under load, and promotes the standby."""
        writers = Writers(self.auth_service, self.user_service, self.known, bearable=(AWAY,))
        writers.run_until("put")
        time.sleep(1)
        lose()
        time.sleep(1)
        self.standby.promote()
        promoted = time.monotonic()
        for kind in ("register", "create", "put", "patch", "delete of an account"):
            before = writers.acknowledged[kind]
            until(lambda: writers.acknowledged[kind] > before, 15, f"{kind} is acknowledged again")
        self.assertLess(time.monotonic() - promoted, 20)
        time.sleep(1)
        writers.stop()
        for service in (self.auth_service, self.user_service):
            service.wait_ready(10)
        self.all_is_there(self.auth_service, self.user_service, writers)
        self.all_deletions_have_arrived(self.auth_service)

        # A service that starts now has to find the primary in the second place.
        for service in (self.auth_service, self.user_service):
            self.assertEqual(0, service.stop(), service.tail())
            service.start().wait_ready(15)

    def test_a_primary_that_is_killed_under_load(self):
        self.fail_over(self.primary.kill)

    def test_a_primary_that_hangs_under_load(self):
        # As when its machine is cut off: nobody refuses anything.
        self.fail_over(self.primary.pause)

    def test_an_old_primary_that_comes_back_does_not_draw_them_back(self):
        # Whoever restarts it like this makes a mistake, and machines do restart by themselves.
        self.primary.kill()
        self.standby.promote()
        for service in (self.auth_service, self.user_service):
            service.wait_ready(20)
        self.primary.start(synchronous_standby_names="")
        # Connections are cut, so that they look for the primary again.
        for _ in range(3):
            self.standby.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name IN ('auth-service', 'user-service')"
            )
            time.sleep(1)
        for service in (self.auth_service, self.user_service):
            service.wait_ready(20)
        person = Person(self.auth_service.rest)
        on_the_new_one = f"SELECT count(*) FROM accounts WHERE id = '{person.id}'"
        self.assertEqual("1", self.standby.query(on_the_new_one, "auth"))

    def test_either_order_of_the_servers_will_do(self):
        for service, name in ((self.auth_service, "auth"), (self.user_service, "user")):
            service.stop()
            both = f"{self.standby.address},{self.primary.address}"
            service.environment["DATABASE_URL"] = self.primary.url(name, both)
        for service in (self.auth_service, self.user_service):
            service.start().wait_ready(15)
        self.assertTrue(Person(self.auth_service.rest).id)
