"""The leader of three Postgres servers is lost under load: nothing acknowledged is lost with it."""

import collections
import threading
import time

from cluster import Cluster
from kit.client import Client
from kit.services import Person, credentials, new_email, shared_secret
from kit.wait import until
from kit.witness import WitnessTest, Writers

AWAY = "503 database_unavailable"


class Sessions:
    """Sessions that are refreshed again and again."""

    def __init__(self, auth, count=3):
        self.auth = Client(auth.http, timeout=40)
        self.stopping = threading.Event()
        self.last = {}
        self.acknowledged = []
        self.wrong = []
        self.threads = []
        for _ in range(count):
            person = Person(self.auth)
            login = self.auth.post(
                "/auth/login", {**credentials(person.email), "offline_access": True}
            )
            assert login.status == 200, login
            self.last[person.email] = login.json["refresh_token"]
            self.threads.append(threading.Thread(target=self.work, args=(person.email,), daemon=True))

    def start(self):
        for thread in self.threads:
            thread.start()

    def work(self, email):
        while not self.stopping.is_set():
            answer = self.refresh(email)
            if answer.status == 200:
                self.acknowledged.append(time.monotonic())
            elif answer.outcome not in (AWAY, "no answer"):
                # Whoever did nothing wrong is logged out.
                self.wrong.append(repr(answer))
                return
            time.sleep(0.1)

    def refresh(self, email):
        answer = self.auth.post("/auth/refresh", {"refresh_token": self.last[email]})
        if answer.status == 200:
            self.last[email] = answer.json["refresh_token"]
        return answer

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)


class TimedWriters(Writers):
    """Writers that know when each service acknowledged something."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.times = collections.defaultdict(list)

    def report(self, kind, acknowledged, answer):
        if acknowledged:
            self.times["auth" if kind == "register" else "user"].append(time.monotonic())
        super().report(kind, acknowledged, answer)


def longest_gap(times):
    times = sorted(times)
    return max(after - before for before, after in zip(times, times[1:]))


class Patroni(WitnessTest):
    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self.name("cluster"))
        self.addCleanup(self.cluster.remove)
        self.cluster.start()
        signing, validating = shared_secret(self.known)
        # Sessions need it, whoever signs the tokens.
        signing["KEY_ENCRYPTION_KEY"] = self.known.key_encryption_key
        self.auth_service = self.auth(self.cluster.url("auth"), **signing, **self.LIMITS)
        self.user_service = self.user(
            self.cluster.url("user"), self.auth_service, **validating, **self.LIMITS
        )
        for service in (self.auth_service, self.user_service):
            service.wait_ready()

    def lose(self, what, lose, most):
        """Loses the leader under load, and sees that all goes on, that nothing is lost, and after how long."""
        old = self.cluster.leader()
        writers = TimedWriters(
            self.auth_service, self.user_service, self.known, bearable=(AWAY, "no answer")
        )
        sessions = Sessions(self.auth_service)
        sessions.start()
        writers.run_until("delete")
        time.sleep(2)
        began = time.monotonic()
        lose(old)
        others = [member for member in self.cluster.members if member is not old]
        until(
            lambda: any(self.cluster.leader(m) not in (None, old) for m in others),
            most,
            self.cluster.tails,
        )
        elected = time.monotonic() - began
        marks = dict(writers.acknowledged)
        for kind in ("register", "create", "put", "patch", "delete of an account"):
            before = marks.get(kind, 0)
            until(lambda: writers.acknowledged[kind] > before, 30, f"{kind} is acknowledged again")
        refreshed = len(sessions.acknowledged)
        until(lambda: len(sessions.acknowledged) > refreshed, 30, "sessions are refreshed again")
        time.sleep(2)
        writers.stop()
        sessions.stop()
        gaps = {name: longest_gap(times) for name, times in writers.times.items()}
        gaps["refreshes"] = longest_gap(sessions.acknowledged)
        told = ", ".join(f"{name} {gap:.1f} s" for name, gap in sorted(gaps.items()))
        count = sum(map(len, writers.times.values())) + len(sessions.acknowledged)
        print(f"      {what}: another leads after {elected:.1f} s; without writes: {told}; {count} acknowledged")
        self.assertLess(max(gaps.values()), most + 10)
        for service in (self.auth_service, self.user_service):
            service.wait_ready(15)
        self.all_is_there(self.auth_service, self.user_service, writers)
        self.all_deletions_have_arrived(self.auth_service)
        self.assertEqual([], sessions.wrong)
        for email in sessions.last:
            answer = sessions.refresh(email)
            self.assertEqual("200", answer.outcome, "an acknowledged refresh is lost")
        return old

    def follows_again(self, old):
        until(self.cluster.is_whole, 90, self.cluster.tails)
        self.assertIsNot(self.cluster.leader(), old)

    def test_a_leader_that_is_killed(self):
        old = self.lose("killed", lambda leader: leader.kill(), 45)
        old.start()
        self.follows_again(old)

    def test_a_leader_that_is_cut_off_from_everybody(self):
        old = self.lose("cut off", lambda leader: leader.cut("inner", "outer"), 45)
        old.join("inner", "outer")
        self.follows_again(old)

    def test_a_leader_that_only_the_services_still_reach(self):
        # It takes what they write until it finds that it leads no more, and must acknowledge none of it.
        old = self.lose("cut off from the others", lambda leader: leader.cut("inner"), 45)
        old.join("inner")
        self.follows_again(old)

    def test_a_switchover(self):
        self.lose("switchover", lambda _: self.cluster.switch(), 30)
        until(self.cluster.is_whole, 60, self.cluster.tails)

    def test_a_follower_that_is_lost_costs_seconds_at_most(self):
        roles = self.cluster.roles()
        follower = next(m for m in self.cluster.members if roles[m.name] == "sync_standby")
        writers = TimedWriters(self.auth_service, self.user_service, self.known)
        writers.run_until("put")
        follower.kill()
        time.sleep(20)
        writers.stop()
        gaps = {name: longest_gap(times) for name, times in writers.times.items()}
        told = ", ".join(f"{name} {gap:.1f} s" for name, gap in sorted(gaps.items()))
        print(f"      the synchronous follower killed: without writes: {told}")
        self.assertEqual([], writers.wrong[:5])
        self.assertLess(max(gaps.values()), 20)

    def test_without_synchronous_mode_what_the_followers_have_not_got_is_lost(self):
        # What the other tests find would show if it were there.
        self.cluster.be_asynchronous()
        leader = self.cluster.leader()
        followers = [member for member in self.cluster.members if member is not leader]
        for follower in followers:
            follower.cut("inner")
        client = Client(self.auth_service.http)
        people = [credentials(new_email()) for _ in range(20)]
        for person in people:
            self.assertEqual(201, client.post("/auth/register", person).status)
        leader.kill()
        for follower in followers:
            follower.join("inner")
        until(lambda: self.cluster.leader() in followers, 45, self.cluster.tails)
        self.auth_service.wait_ready(20)
        again = [self.insist(lambda: client.post("/auth/register", person)) for person in people]
        lost = sum(answer.status == 201 for answer in again)
        print(f"      without synchronous mode {lost} of {len(people)} acknowledged accounts are lost")
        self.assertGreater(lost, 0)
