"""A steady mixed load, and what became of each request."""

import collections
import itertools
import threading
import time

from kit.client import Client
from kit.services import Person, credentials, new_email

EXPECTED = {"register": 201, "login": 200, "get": 200, "put": 200, "list": 200}


class Load:
    """Threads that send one request after the other. `auth` and `user` are addresses of REST edges;
    where one is None it gets no requests. `prepared` people are there before the load begins."""

    def __init__(self, prepared, auth=None, user=None, threads=4, pause=0.01, timeout=30):
        self.people = prepared
        self.auth = auth and Client(auth, timeout)
        self.user = user and Client(user, timeout)
        self.pause = pause
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.failed = []
        self.clear()
        kinds = []
        if user:
            kinds += [self.get, self.put, self.get, self.list]
        if auth:
            kinds += [self.login, self.register]
        workers = itertools.islice(itertools.cycle(kinds), threads)
        self.threads = [
            threading.Thread(target=self.work, args=(kind, number), daemon=True)
            for number, kind in enumerate(workers)
        ]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def clear(self):
        """Forgets what has happened, also of requests that are under way."""
        with self.lock:
            self.outcomes = collections.Counter()
            self.answered = collections.Counter()
            self.slowest = 0.0
            self.since = time.monotonic()

    def work(self, send, number):
        person = self.people[number % len(self.people)] if self.people else None
        for count in itertools.count():
            if self.stopping.is_set():
                return
            kind = send.__name__
            began = time.monotonic()
            answer = send(person, count)
            fine = answer.status == EXPECTED[kind]
            with self.lock:
                if not fine:
                    self.failed.append(f"{time.strftime('%T')} {kind}: {answer}")
                if began < self.since:
                    continue
                self.outcomes["fine" if fine else answer.outcome] += 1
                self.answered[kind] += fine
                self.slowest = max(self.slowest, answer.took)
            time.sleep(self.pause)

    def register(self, _, __):
        return self.auth.post("/auth/register", credentials(new_email()))

    def login(self, person, _):
        return self.auth.post("/auth/login", credentials(person.email))

    def get(self, person, _):
        return self.user.get(person.path, person.token)

    def put(self, person, count):
        return self.user.put(person.path, {"name": f"n{count}", "bio": ""}, person.token)

    def list(self, person, _):
        return self.user.get("/users?page_size=5", person.token)


def people(auth, count):
    """Registered and logged in."""
    client = Client(auth)
    return [Person(client) for _ in range(count)]
