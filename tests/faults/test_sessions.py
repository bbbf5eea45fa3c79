"""Refresh tokens when things break: no honest client is logged out, and no token has two successors."""

import concurrent.futures
import os
import random
import threading
import time

from kit.case import FaultTest
from kit.client import Client
from kit.cutting_proxy import CuttingProxy
from kit.services import Person
from kit.sessions import Refreshers, Session
from kit.wait import until

# How often each kind of end is tried; a run by hand may ask for more than one that is made for every change.
KILLS = int(os.environ.get("FAULTS_KILLS", "8"))
CUTS = int(os.environ.get("FAULTS_CUTS", "0"))

BEARABLE = ("503 database_unavailable", "no answer")
SETTINGS = {"REFRESHES_PER_MINUTE": "0", "JWT_ALGORITHM": "EdDSA"}


class Sessions(FaultTest):
    def sessions(self, auth, count):
        return [Session(auth.rest, Person(auth.rest).email) for _ in range(count)]

    def survive(self, auths, victims, sessions):
        """Kills one of `victims` after the other while the sessions are refreshed."""
        for number in range(KILLS):
            victim = victims[number % len(victims)]
            with self.subTest(round=number, victim=victim.name):
                addresses = [auth.http for auth in auths]
                with Refreshers(addresses, sessions, BEARABLE) as refreshers:
                    until(lambda: refreshers.refreshed >= len(sessions), 20, "they are refreshed")
                    # At any moment of the next ones.
                    time.sleep(random.uniform(0, 0.05))
                    victim.kill()
                    victim.start()
                self.assertEqual([], refreshers.wrong[:3])
                for session in sessions:
                    # It was answered, so it is durable; or it was not, and is presented again.
                    self.goes_on(auths[number % len(auths)], session)
                    self.assertEqual([], session.with_two_successors())

    def goes_on(self, auth, session):
        client = Client(auth.http)
        answers = []

        def answered():
            answers.append(session.refresh(client))
            return answers[-1].outcome not in BEARABLE

        until(answered, 20, "an answer after the restart")
        self.assertEqual("200", answers[-1].outcome)

    def test_kill_9_of_postgres_or_of_one_of_two_replicas_logs_nobody_out(self):
        server = self.postgres()
        one = self.auth(server.url("auth"), what="one", **SETTINGS).wait_ready()
        two = self.auth(server.url("auth"), what="two", **SETTINGS).wait_ready()
        self.survive([one, two], [one, server, two, server], self.sessions(one, 6))

    def test_kill_9_on_sqlite_logs_nobody_out_even_without_a_retry_window(self):
        auth, _ = self.on_sqlite(REFRESH_RETRY_WINDOW="0", **SETTINGS)
        self.survive([auth], [auth], self.sessions(auth, 4))

    def test_an_answer_that_is_cut_at_any_byte_logs_nobody_out(self):
        for window in ("30", "0"):
            auth, _ = self.on_sqlite(
                self.name(f"window-{window}"), REFRESH_RETRY_WINDOW=window, **SETTINGS
            )
            with self.subTest(window=window), CuttingProxy(auth.http) as proxy:
                (session,) = self.sessions(auth, 1)
                whole = self.length_of_an_answer(auth, session)
                self.assertGreater(whole, 500)
                places = [random.randrange(whole + 1) for _ in range(CUTS)] or range(whole + 1)
                for most in places:
                    self.cut(auth, proxy, session, most, whole, keeps=window == "30")

    def cut(self, auth, proxy, session, most, whole, keeps):
        """One refresh whose answer is cut, and the retry of its client."""
        presented, proxy.most = session.token, most
        # A connection of its own, as after a loss of the network.
        cut = session.refresh(Client(proxy.address, timeout=20))
        if most < whole - 16:
            # The length of the answer varies a little, with its numbers.
            self.assertEqual("no answer", cut.outcome, most)
        if cut.status == 200:
            return
        self.assertEqual(presented, session.token)
        again = session.refresh(auth.rest)
        self.assertEqual("200", again.outcome, f"cut after {most} bytes")
        if keeps:
            # The retry is answered with the very token that was lost.
            session.token = presented
            self.assertEqual("200", session.refresh(auth.rest).outcome)
            self.assertEqual([], session.with_two_successors())

    @staticmethod
    def length_of_an_answer(auth, session):
        """How many bytes an answer has, head included."""
        with CuttingProxy(auth.http) as proxy:
            answer = session.refresh(Client(proxy.address))
        assert answer.status == 200, answer
        head = sum(len(name) + len(value) + 4 for name, value in answer.headers.items())
        return len("HTTP/1.1 200 OK\r\n") + head + 2 + len(answer.body)

    def test_fifty_refreshes_at_once_at_two_replicas_give_one_successor(self):
        server = self.postgres()
        one = self.auth(server.url("auth"), what="one", **SETTINGS).wait_ready()
        two = self.auth(server.url("auth"), what="two", **SETTINGS).wait_ready()
        (session,) = self.sessions(one, 1)
        for _ in range(5):
            presented, together = session.token, threading.Barrier(50)

            def refresh(number):
                client = Client((one if number % 2 else two).http)
                # Connected before, so that the requests arrive together.
                client.get("/livez")
                together.wait(20)
                return client.post("/auth/refresh", {"refresh_token": presented})

            with concurrent.futures.ThreadPoolExecutor(50) as pool:
                answers = list(pool.map(refresh, range(50)))
            self.assertEqual({"200"}, {answer.outcome for answer in answers})
            successors = {answer.json["refresh_token"] for answer in answers}
            self.assertEqual(1, len(successors))
            session.token = successors.pop()
            self.assertEqual("200", session.refresh(two.rest).outcome)
