"""A Postgres that restarts, hangs, or has no connection to spare: 503 in bounded time, and everything
as before when it is back."""

import concurrent.futures
import threading
import time

from kit import settings
from kit.case import FaultTest
from kit.client import Client
from kit.load import Load, people
from kit.process import Process
from kit.services import Person, credentials
from kit.wait import until

AWAY = "503 database_unavailable"


class Probes:
    """Asks the probes of a service all the time, and notes the slowest answer of each."""

    def __init__(self, service):
        self.service = service
        self.stopping = threading.Event()
        self.slowest = {}
        self.statuses = {}
        self.threads = [
            threading.Thread(target=self.ask, args=(path,), daemon=True)
            for path in ("/livez", "/readyz", "/health")
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)

    def ask(self, path):
        client = Client(self.service.http)
        while not self.stopping.is_set():
            answer = client.get(path)
            self.slowest[path] = max(self.slowest.get(path, 0), answer.took)
            self.statuses.setdefault(path, set()).add(answer.outcome)
            time.sleep(0.1)


class DatabaseOutage(FaultTest):
    def setUp(self):
        super().setUp()
        self.server = self.postgres()
        self.auth_service, self.user_service = self.on_postgres(self.server)
        self.people = people(self.auth_service.http, 3)

    def load(self, **options):
        options = {"threads": 6, **options}
        return Load(self.people, self.auth_service.http, self.user_service.http, **options)

    def assert_recovers(self, load, seconds):
        """All requests are fine again, without anybody's help."""

        def fine():
            load.clear()
            time.sleep(0.5)
            return set(load.outcomes) == {"fine"}

        until(fine, seconds, "all requests are fine again")
        for service in (self.auth_service, self.user_service):
            service.wait_ready(5)

    def test_a_restart_of_postgres_is_a_matter_of_seconds(self):
        with self.load() as load:
            time.sleep(0.5)
            for _ in range(2):
                load.clear()
                self.server.restart()
                self.assert_recovers(load, 10)
        self.assert_only_refused(load)

    def test_a_kill_of_postgres_is_a_matter_of_seconds(self):
        with self.load() as load:
            time.sleep(0.5)
            self.server.kill()
            time.sleep(1)
            self.server.start()
            self.assert_recovers(load, 10)
        self.assert_only_refused(load)

    def test_nobody_whose_request_has_succeeded_is_told_that_the_service_is_not_ready(self):
        person = Person(self.auth_service.rest)
        requests = (
            (self.auth_service, lambda auth: auth.post("/auth/login", credentials(person.email))),
            (self.user_service, lambda user: user.get(person.path, person.token)),
        )
        for round_ in range(3):
            self.server.kill()
            for service, _ in requests:
                until(lambda: service.rest.get("/readyz").status == 503, 9, "not ready")
            # At another moment between two looks each time.
            time.sleep(0.3 * round_)
            self.server.start()

            def first_success(service, ask):
                until(lambda: ask(service.rest).status == 200, 20, "a request succeeds")
                return service.rest.get("/readyz")

            with concurrent.futures.ThreadPoolExecutor() as pool:
                answers = [pool.submit(first_success, *request) for request in requests]
                for answer in answers:
                    self.assertEqual("200", answer.result().outcome)

    def test_cut_connections_cost_one_answer_each_at_most(self):
        with self.load() as load:
            time.sleep(0.5)
            for _ in range(5):
                self.server.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name IN ('auth-service', 'user-service')"
                )
                time.sleep(0.2)
            self.assert_recovers(load, 5)
        self.assert_only_refused(load)

    def assert_only_refused(self, load):
        others = [line for line in load.failed if AWAY not in line]
        self.assertEqual([], others[:5])

    def test_a_postgres_that_hangs_is_given_up_and_taken_up_again(self):
        with (
            Probes(self.auth_service) as auth,
            Probes(self.user_service) as user,
            self.load() as load,
        ):
            time.sleep(0.5)
            self.server.pause()
            try:
                for service in (self.auth_service, self.user_service):
                    client = Client(service.http)
                    until(lambda: client.get("/readyz").status == 503, 9, "not ready")
                load.clear()
                # Longer than a request may take.
                time.sleep(9)
                self.assertEqual([AWAY], list(load.outcomes))
                self.assertLess(load.slowest, 10)
                # While nobody is let down halfway, the one who asks is told why.
                health = Client(self.user_service.http).get("/health").json
                self.assertEqual("unavailable", health["checks"]["database"]["status"])
                self.assertEqual("ok", health["checks"]["signing_keys"]["status"])
            finally:
                self.server.go_on()
            self.assert_recovers(load, 10)
        self.assert_only_refused(load)
        for probes in (auth, user):
            self.assertEqual({"200"}, probes.statuses["/livez"])
            self.assertEqual({"200", "503"}, probes.statuses["/readyz"])
            for path, slowest in probes.slowest.items():
                self.assertLess(slowest, 2, path)

    def test_a_role_without_a_connection_to_spare_is_refused_in_bounded_time(self):
        with self.load(threads=12) as load:
            time.sleep(0.3)
            for role in ("auth_service", "user_service"):
                self.server.execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")
                self.server.execute(
                    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
                )
            # Those under way have ended after that.
            time.sleep(1)
            load.clear()
            # A request waits for DATABASE_ACQUIRE_TIMEOUT, in case one becomes free.
            until(lambda: sum(load.outcomes.values()) >= 6, 12, "answers")
            self.assertEqual([AWAY], list(load.outcomes))
            self.assertLess(load.slowest, 10)
            until(lambda: Client(self.auth_service.http).get("/readyz").status == 503, 9, "not ready")

            # Fewer than the services ask for.
            for role in ("auth_service", "user_service"):
                self.server.execute(f"ALTER ROLE {role} CONNECTION LIMIT 3")
            until(lambda: load.outcomes["fine"] > 20, 10, "some requests are fine")
            for role in ("auth_service", "user_service"):
                self.server.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
            self.assert_recovers(load, 10)
        self.assert_only_refused(load)


class NoConnectionLeft(FaultTest):
    def test_a_service_starts_when_the_server_has_no_connection_left_and_waits_for_one(self):
        # Beside those for superusers there are six, and others have taken them: as many as both services
        # need, each two for its pool and one for its checks. An attempt counts until it is refused, so
        # that those for superusers have to be more than a few.
        server = self.postgres(max_connections=18, superuser_reserved_connections=12)
        for number in range(1, 7):
            self.occupy(server, number)
        auth = self.auth(server.url("auth"), DATABASE_MAX_CONNECTIONS="2")
        user = self.user(server.url("user"), auth, DATABASE_MAX_CONNECTIONS="2")
        for service in (auth, user):
            until(lambda: Client(service.http).get("/livez").status == 200, 10, "it is live")
            self.assertEqual(503, Client(service.http).get("/readyz").status)
        refused = auth.rest.post("/auth/login", {"email": "a@b.com", "password": "S3cureP@ss"})
        self.assertEqual(AWAY, refused.outcome)
        self.assertLess(refused.took, 10)
        server.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        )
        for service in (auth, user):
            service.wait_ready(15)
        self.assertEqual(1, len(people(auth.http, 1)))

    def occupy(self, server, number):
        """Somebody who takes the connection of this number and keeps it."""
        command = [settings.POSTGRES_BIN / "psql", "-XqAt", "-c", "SELECT pg_sleep(120)"]
        command.append(server.url("auth"))
        client = Process(command, settings.WORK / self.name("psql.log"))
        self.addCleanup(client.kill)
        count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'auth_service'"

        def connected():
            if not client.is_running():
                # A connection of ours that has just ended may still have counted.
                client.start()
            return server.query(count) == str(number)

        until(connected, 10, f"{number} connections")
