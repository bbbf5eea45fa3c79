"""Clients with a session, as an honest app is one: they keep the token that they were answered last, and
try again with the same one where there was no answer."""

import threading
import time

from kit.client import Client
from kit.services import credentials


class Session:
    """A session, and what was ever answered to each of its tokens."""

    def __init__(self, rest, email):
        login = rest.post("/auth/login", {**credentials(email), "offline_access": True})
        assert login.status == 200, login
        self.token = login.json["refresh_token"]
        self.successors = {}

    def refresh(self, rest):
        """Presents the newest token, and keeps the next where there is an answer."""
        presented = self.token
        answer = rest.post("/auth/refresh", {"refresh_token": presented})
        if answer.status == 200:
            successor = answer.json["refresh_token"]
            self.successors.setdefault(presented, set()).add(successor)
            self.token = successor
        return answer

    def with_two_successors(self):
        """The tokens that two different ones were answered to."""
        return [token for token, answered in self.successors.items() if len(answered) > 1]


class Refreshers:
    """Threads that refresh a session of their own all the time, each request at the next address.
    `bearable` is what may be answered instead of the next token; then the same one is presented again."""

    def __init__(self, addresses, sessions, bearable=(), pause=0.0):
        self.clients = [Client(address, timeout=20) for address in addresses]
        self.sessions = sessions
        self.bearable = bearable
        self.pause = pause
        self.stopping = threading.Event()
        self.refreshed = 0
        self.wrong = []
        self.lock = threading.Lock()
        self.threads = [
            threading.Thread(target=self.work, args=(session, number), daemon=True)
            for number, session in enumerate(sessions)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def work(self, session, turn):
        while not self.stopping.is_set():
            answer = session.refresh(self.clients[turn % len(self.clients)])
            turn += 1
            with self.lock:
                self.refreshed += answer.status == 200
                if answer.status != 200 and answer.outcome not in self.bearable:
                    self.wrong.append(f"{time.strftime('%T')} refresh: {answer}")
            time.sleep(self.pause if answer.status == 200 else 0.05)
