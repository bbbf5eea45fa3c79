"""Replicas behind HAProxy are restarted one after the other, and no client notices."""

import time

from kit import settings
from kit.case import FaultTest
from kit.client import Client
from kit.load import Load, people
from kit.process import Process, free_port
from kit.services import Person, auth_service, is_active, user_service
from kit.sessions import Refreshers, Session
from kit.wait import until


class RollingRestart(FaultTest):
    def test_two_replicas_of_each_service_restarted_twice_around_fail_no_request(self):
        server = self.postgres()
        auth, users, auth_grpc = (f"127.0.0.1:{free_port()}" for _ in range(3))
        auths = [
            self.keep(auth_service(self.name(f"auth-{n}"), server.url("auth"), self.known))
            for n in (1, 2)
        ]
        user_replicas = [
            self.keep(
                user_service(
                    self.name(f"user-{n}"), server.url("user"), self.known, (auth, auth_grpc)
                )
            )
            for n in (1, 2)
        ]
        environment = {"AUTH": auth, "USERS": users, "AUTH_GRPC": auth_grpc}
        for n, replica in enumerate(auths, 1):
            environment |= {f"AUTH_{n}": replica.http, f"AUTH_GRPC_{n}": replica.grpc}
            host, port = replica.http.split(":")
            environment |= {f"AUTH_{n}_HOST": host, f"AUTH_{n}_PORT": port}
        for n, replica in enumerate(user_replicas, 1):
            environment |= {f"USER_{n}": replica.http}
        self.haproxy(environment)
        for replica in (*auths, *user_replicas):
            replica.start()
        for replica in (*auths, *user_replicas):
            replica.wait_ready()
        for address in (auth, users):
            until(lambda: Client(address).get("/readyz").status == 200, 10, "HAProxy sees them")

        sessions = [Session(Client(auth), Person(Client(auth)).email) for _ in range(3)]
        with (
            Load(people(auth, 4), auth, users, threads=8) as load,
            Refreshers([auth], sessions, pause=0.1) as refreshers,
        ):
            time.sleep(1)
            for _ in range(2):
                for replica in (*auths, *user_replicas):
                    self.assertEqual(0, replica.stop(), replica.tail())
                    # Meanwhile the other one has all the load.
                    time.sleep(0.7)
                    replica.start().wait_ready()
                    # Not before HAProxy has seen it.
                    time.sleep(0.8)
        self.assertEqual([], load.failed[:5])
        for kind in ("register", "login", "get", "put", "list"):
            self.assertGreater(load.answered[kind], 30, load.answered)

        # No session has ended, no refresh had to be tried again, and no token has two successors.
        self.assertEqual([], refreshers.wrong[:5])
        self.assertGreater(refreshers.refreshed, 100)
        for session in sessions:
            self.assertEqual([], session.with_two_successors())

        # The user service reaches whichever auth service there is.
        leaver = Person(Client(auth))
        self.assertEqual("200", Client(users).get(leaver.path, leaver.token).outcome)
        self.assertEqual("204", Client(users).delete(leaver.path, leaver.token).outcome)
        until(lambda: not is_active(auths[0], self.known, leaver.token), 8, "the account is gone")

    def haproxy(self, environment):
        proxy = Process(
            ["haproxy", "-db", "-f", settings.EXAMPLES / "haproxy/haproxy.cfg"],
            settings.WORK / self.name("haproxy.log"),
            environment,
        )
        self.addCleanup(proxy.kill)
        self.addCleanup(lambda: self.assertTrue(proxy.is_running(), proxy.tail()))
        return proxy.start()
