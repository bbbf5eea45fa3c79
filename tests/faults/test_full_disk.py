"""A disk without space: what cannot be written is refused with 503, what is there can be read, and all
is well when there is space again."""

import contextlib
import random
import shutil
import sqlite3
import time
import uuid

from kit.case import FaultTest
from kit.disk import SmallDisk
from kit.load import Load
from kit.postgres import run
from kit.services import credentials, issue_token, new_email
from kit.wait import until

AWAY = "503 database_unavailable"


def long_text():
    """As long as a bio may be, 16,000 bytes, and nothing that a database could compress."""
    return "".join(chr(random.randrange(0x20000, 0x2A6D0)) for _ in range(4000))


class Guest:
    """Somebody with a token, whose profile does not exist yet."""

    def __init__(self, known):
        self.id = str(uuid.uuid4())
        self.token = issue_token(known, self.id, new_email())
        self.path = f"/users/{self.id}"
        # What was acknowledged last.
        self.bio = None

    def create(self, rest):
        """The first request."""
        return self.note(rest.get(self.path, self.token), "")

    def put(self, rest):
        """A profile as large as can be."""
        bio = long_text()
        return self.note(rest.put(self.path, {"name": "n", "bio": bio}, self.token), bio)

    def note(self, answer, bio):
        if answer.status == 200:
            self.bio = bio
        return answer


class FullDisk(FaultTest):
    def write_until_refused(self, user, guests):
        """Profiles, until there is no space for one."""
        for _ in range(1000):
            guests.append(Guest(self.known))
            for write in (guests[-1].create, guests[-1].put):
                answer = write(user.rest)
                self.assertIn(answer.outcome, ("200", AWAY), answer)
                self.assertLess(answer.took, 10)
                if answer.outcome == AWAY:
                    return
        self.fail("the disk was never full")

    def register_until_refused(self, auth, accounts):
        """Accounts, until there is no space for one."""
        for _ in range(200):
            email = new_email()
            answer = auth.rest.post("/auth/register", credentials(email))
            self.assertIn(answer.outcome, ("201", AWAY), answer)
            self.assertLess(answer.took, 10)
            if answer.outcome == AWAY:
                return
            accounts.append(email)
        self.fail("the disk was never full")

    def assert_written(self, user, guests):
        """Nothing that was acknowledged is lost, and nothing is half of what was not."""
        for guest in guests:
            if guest.bio is not None:
                answer = user.rest.get(guest.path, guests[0].token)
                self.assertEqual("200", answer.outcome, answer)
                self.assertEqual(guest.bio, answer.json["bio"])

    def assert_refused_but_readable(self, auth, user, readers):
        """For a while, with several clients."""
        with Load(readers, None, user.http, threads=4) as load:
            time.sleep(2)
        self.assertGreater(load.answered["get"], 10)
        self.assertGreater(load.answered["list"], 10)
        self.assertLess(load.slowest, 10)
        others = [line for line in load.failed if f"put: {AWAY}" not in line]
        self.assertEqual([], others[:5])
        self.assertEqual("200", auth.rest.get("/.well-known/jwks.json").outcome)
        for service in (auth, user):
            self.assertEqual("200", service.rest.get("/livez").outcome)

    def whole_story(self, disk, auth, user):
        """Full, and with space again."""
        guests, accounts = [Guest(self.known)], []
        readers = [Guest(self.known) for _ in range(3)]
        for guest in (*readers, *guests):
            self.assertEqual("200", guest.create(user.rest).outcome)
            self.assertEqual("200", guest.put(user.rest).outcome)
        disk.fill()
        self.write_until_refused(user, guests)
        self.register_until_refused(auth, accounts)
        self.assert_refused_but_readable(auth, user, readers)

        disk.free()
        until(lambda: guests[0].put(user.rest).status == 200, 10, "a profile can be written")
        registers = lambda: auth.rest.post("/auth/register", credentials(new_email()))
        until(lambda: registers().status == 201, 10, "an account can be registered")
        for service in (auth, user):
            service.kill()
            service.start().wait_ready()
        self.assert_written(user, guests)
        for email in accounts:
            again = auth.rest.post("/auth/register", credentials(email))
            self.assertEqual("409 email_already_registered", again.outcome)

    def test_sqlite_on_a_full_disk_refuses_writes_and_goes_on_reading(self):
        disk = SmallDisk(self, self.name("disk"), 12)
        auth, user = self.on_sqlite(disk.path, own_tokens=True)
        self.whole_story(disk, auth, user)
        for name in ("auth.db", "user.db"):
            with contextlib.closing(sqlite3.connect(disk.path / name)) as database:
                self.assertEqual([("ok",)], database.execute("PRAGMA integrity_check").fetchall())

    def test_postgres_on_a_full_disk_refuses_writes_and_goes_on_reading(self):
        server = self.postgres()
        disk = SmallDisk(self, self.name("disk"), 60)
        server.execute(f"CREATE TABLESPACE small LOCATION '{disk.path}'")
        for database in ("auth", "users"):
            server.execute(f"ALTER DATABASE {database} SET TABLESPACE small")
        auth, user = self.on_postgres(server, own_tokens=True)
        self.whole_story(disk, auth, user)

    def test_postgres_that_cannot_write_its_log_comes_back_with_all_that_was_acknowledged(self):
        server = self.postgres()
        server.stop()
        # The write-ahead log on a disk of its own. Without space for it Postgres ends itself.
        disk = SmallDisk(self, self.name("disk"), 40)
        log = server.files / "pg_wal"
        run("cp", "-a", log, disk.path / "pg_wal")
        shutil.rmtree(log)
        log.symlink_to(disk.path / "pg_wal")
        # Kept for a replica that never comes: the usual reason why it fills its disk.
        server.start(wal_keep_size="1GB")
        auth, user = self.on_postgres(server, own_tokens=True)
        guests = []
        disk.fill()
        self.write_until_refused(user, guests)
        for service in (auth, user):
            self.assertEqual("200", service.rest.get("/livez").outcome)

        disk.free()
        # Whoever is on call starts it, if it has given up.
        until(
            lambda: not server.process.is_running() or self.answers(user, guests[0]), 20, "an end"
        )
        if not server.process.is_running():
            server.start()
        for service in (auth, user):
            service.wait_ready(20)
        self.assert_written(user, guests)
        until(lambda: guests[0].put(user.rest).status == 200, 10, "a profile can be written")

    def answers(self, user, guest):
        return user.rest.get(guest.path, guest.token).status == 200
