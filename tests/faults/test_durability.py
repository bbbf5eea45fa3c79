"""kill -9 of either service and of Postgres around every kind of write, 100 times in all: what was
acknowledged is there afterwards, whole."""

from kit.witness import WitnessTest, Writers

# Each kind of write, and whose end it has to survive.
MOMENTS = [
    ("register", "auth"),
    ("register", "postgres"),
    ("failed login", "auth"),
    ("failed login", "postgres"),
    ("create", "user"),
    ("create", "postgres"),
    ("put", "user"),
    ("put", "postgres"),
    ("patch", "user"),
    ("patch", "postgres"),
    ("delete", "user"),
    ("delete", "auth"),
    ("delete", "postgres"),
]


class Durability(WitnessTest):
    def rounds(self, count, auth, user, victims, moments):
        for number in range(count):
            kind, victim = moments[number % len(moments)]
            with self.subTest(round=number, kind=kind, victim=victim):
                writers = Writers(auth, user, self.known)
                writers.run_until(kind)
                victims[victim].kill()
                victims[victim].start()
                writers.stop()
                self.all_is_there(auth, user, writers)
        self.all_deletions_have_arrived(auth)

    def test_what_was_acknowledged_on_postgres_survives_kill_9(self):
        postgres = self.postgres()
        auth, user = self.on_postgres(postgres, own_tokens=True, **self.LIMITS)
        victims = {"auth": auth, "user": user, "postgres": postgres}
        self.rounds(6 * len(MOMENTS), auth, user, victims, MOMENTS)

    def test_what_was_acknowledged_on_sqlite_survives_kill_9(self):
        auth, user = self.on_sqlite(own_tokens=True, **self.LIMITS)
        victims = {"auth": auth, "user": user}
        self.rounds(22, auth, user, victims, [one for one in MOMENTS if one[1] in victims])
