"""Witnesses of what was acknowledged: they write, and look afterwards whether it is there."""

import collections
import random
import threading
import time
import uuid

from kit.case import FaultTest
from kit.client import Client
from kit.services import credentials, is_active, issue_token, new_email
from kit.wait import until

FAILURES = 4  # LOGIN_FAILURES_PER_PAIR

ABSENT, DELETED = "absent", "deleted"
EMPTY = ("", "")


class Owner:
    """An account, and which states its profile may be in: one, or two after a write that was not
    acknowledged."""

    def __init__(self, known, account, email, registered):
        self.id = account
        self.email = email
        self.registered = registered
        self.token = issue_token(known, account, email)
        self.path = f"/users/{account}"
        self.possible = {ABSENT}

    def write(self, report, kind, state, expected, send):
        """Sends one write. Returns whether it was acknowledged."""
        self.possible |= {state}
        answer = send()
        acknowledged = answer.status == expected
        if acknowledged:
            self.possible = {state}
        report(kind, acknowledged, answer)
        return acknowledged


class Writers:
    """Writers that work until something is killed, and what they know then."""

    def __init__(self, auth, user, known, bearable=("503 database_unavailable", "no answer")):
        """`bearable` is what may be answered instead of an acknowledgement."""
        self.bearable = bearable
        # Connections of the round before have ended with their server.
        self.auth = Client(auth.http, timeout=40)
        self.user = Client(user.http, timeout=40)
        self.known = known
        self.stopping = threading.Event()
        self.owners = collections.deque()
        self.registered = collections.deque()
        self.unowned = collections.deque()
        self.guessed = {}
        self.acknowledged = collections.Counter()
        self.wrong = []
        self.moment = None
        self.reached = threading.Event()

    def report(self, kind, acknowledged, answer):
        if acknowledged:
            self.acknowledged[kind] += 1
            if kind == self.moment:
                self.reached.set()
        elif answer.outcome not in self.bearable:
            self.wrong.append(f"{kind}: {answer}")
        if not acknowledged:
            # What was killed comes back only after the round.
            time.sleep(0.05)

    def run_until(self, kind):
        """Starts the writers, and returns at some time after a write of this kind was acknowledged."""
        writers = [self.write_profiles] * 3 + [self.register]
        if kind == "failed login":
            # Looking at the counts afterwards takes long, since each look is a login.
            writers.append(self.guess)
        self.threads = [threading.Thread(target=writer, daemon=True) for writer in writers]
        for thread in self.threads:
            thread.start()
        time.sleep(random.uniform(0, 0.2))
        self.moment = kind
        if not self.reached.wait(20):
            raise AssertionError(
                f"no {kind} was acknowledged: {self.acknowledged}, {self.wrong[:3]}"
            )
        # At once, or while the next writes are under way.
        time.sleep(random.choice([0, 0, random.uniform(0, 0.01), random.uniform(0, 0.1)]))

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def register(self):
        while not self.stopping.is_set():
            email = new_email()
            answer = self.auth.post("/auth/register", credentials(email))
            if answer.status == 201:
                self.registered.append((email, answer.json["id"]))
                self.unowned.append((email, answer.json["id"]))
            self.report("register", answer.status == 201, answer)

    def guess(self):
        email = new_email()
        for _ in range(FAILURES - 1):
            if self.stopping.is_set():
                return
            answer = self.auth.post("/auth/login", credentials(email, "wrong"))
            if answer.status == 401:
                self.guessed[email] = self.guessed.get(email, 0) + 1
            self.report("failed login", answer.status == 401, answer)

    def write_profiles(self):
        while not self.stopping.is_set():
            try:
                email, account = self.unowned.popleft()
                owner = Owner(self.known, account, email, registered=True)
            except IndexError:
                owner = Owner(self.known, str(uuid.uuid4()), new_email(), registered=False)
            self.owners.append(owner)
            self.live(owner)

    def live(self, owner):
        """A profile's life, as far as it gets: the first write without an answer ends it."""
        user, path, token = self.user, owner.path, owner.token
        if not owner.write(self.report, "create", EMPTY, 200, lambda: user.get(path, token)):
            return
        for count in range(random.randrange(1, 4)):
            # Both members tell which write they are of: a half state would show.
            state = (f"put {count}", f"put {count}")
            body = dict(zip(("name", "bio"), state))
            if not owner.write(self.report, "put", state, 200, lambda: user.put(path, body, token)):
                return
        state = ("patched", "patched")
        body = dict(zip(("name", "bio"), state))
        if not owner.write(self.report, "patch", state, 200, lambda: user.patch(path, body, token)):
            return
        if random.random() < 0.6:
            gone = owner.write(
                self.report, "delete", DELETED, 204, lambda: user.delete(path, token)
            )
            self.acknowledged["delete of an account"] += gone and owner.registered


class WitnessTest(FaultTest):
    """A test that finds what its writers know to be there."""

    LIMITS = {
        "LOGIN_FAILURES_PER_PAIR": str(FAILURES),
        "LOGIN_FAILURES_PER_ACCOUNT": "0",
        "HASH_QUEUE_TIMEOUT": "1",
    }

    def setUp(self):
        super().setUp()
        self.observer = Owner(self.known, str(uuid.uuid4()), new_email(), registered=False)
        self.deleted = []

    def all_is_there(self, auth, user, writers):
        """Looks for everything that was acknowledged."""
        self.assertEqual([], writers.wrong[:5])
        self.auth_client, self.user_client = Client(auth.http), Client(user.http)
        self.accounts_are_there(writers)
        self.failures_are_counted(writers)
        self.profiles_are_there(writers, self.observer)

    def all_deletions_have_arrived(self, auth):
        """At the end: what was deleted is gone everywhere, and nothing of it is back."""
        self.deletions_arrive(auth)
        self.nobody_is_back(self.observer)

    def insist(self, send):
        """The answer, once the databases and the services have recovered."""
        answer = None

        def answered():
            nonlocal answer
            answer = send()
            return answer.outcome not in ("503 database_unavailable", "no answer")

        until(answered, 20, "an answer after the restart")
        return answer

    def accounts_are_there(self, writers):
        leaving = {owner.email for owner in writers.owners if DELETED in owner.possible}
        for email, _ in writers.registered:
            # Whose owner is deleting it is looked at later: here it could be made anew.
            if email not in leaving:
                again = lambda: self.auth_client.post("/auth/register", credentials(email))
                self.assertEqual(
                    "409 email_already_registered", self.insist(again).outcome, "an account is lost"
                )

    def failures_are_counted(self, writers):
        for email, seen in writers.guessed.items():
            while True:
                answer = self.insist(
                    lambda: self.auth_client.post("/auth/login", credentials(email, "wrong"))
                )
                if answer.status != 401:
                    break
                seen += 1
                self.assertLessEqual(seen, FAILURES, "a kill has given further tries")
            # An attempt that was cut short counts for a while: then the answer is "not now".
            self.assertIn(answer.outcome, ("429 too_many_attempts", "503 overloaded"))

    def profiles_are_there(self, writers, observer):
        for owner in writers.owners:
            answer = self.insist(lambda: self.user_client.get(owner.path, observer.token))
            if answer.status == 200:
                state = (answer.json["name"], answer.json["bio"])
                self.assertIn(state, owner.possible, f"{owner.path} after the kill")
                continue
            self.assertEqual("404 user_not_found", answer.outcome)
            self.assertTrue(
                {ABSENT, DELETED} & owner.possible, f"{owner.path} is lost: {owner.possible}"
            )
            if DELETED in owner.possible:
                own = self.insist(lambda: self.user_client.get(owner.path, owner.token))
                self.assertEqual("401 account_deleted", own.outcome, "a deleted profile is back")
                self.deleted.append(owner)

    def deletions_arrive(self, auth):
        registered = [owner for owner in self.deleted if owner.registered]
        self.assertTrue(registered, "no account was deleted, so nothing was tested")
        for owner in registered:
            until(
                lambda: not is_active(auth, self.known, owner.token),
                15,
                f"the account {owner.id} is deleted",
            )
        for owner in registered[:10]:
            login = self.auth_client.post("/auth/login", credentials(owner.email))
            self.assertEqual("401 invalid_credentials", login.outcome)

    def nobody_is_back(self, observer):
        for owner in self.deleted:
            answer = self.insist(lambda: self.user_client.get(owner.path, observer.token))
            self.assertEqual("404 user_not_found", answer.outcome)
