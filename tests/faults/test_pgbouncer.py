"""The services behind PgBouncer in transaction mode, with fewer servers than clients."""

import threading
import time
import uuid

from kit import settings
from kit.case import FaultTest
from kit.client import Client
from kit.load import Load, people
from kit.postgres import PASSWORD
from kit.process import Process, free_port
from kit.services import auth_service, credentials, new_email, user_service
from kit.wait import until

CLIENTS = 20
AWAY = "503 database_unavailable"
POOLED = {
    "DATABASE_POOL_MODE": "transaction",
    "MIGRATE_ON_START": "false",
    # More than PgBouncer has servers.
    "DATABASE_MAX_CONNECTIONS": "16",
}


class PgBouncer(FaultTest):
    def setUp(self):
        super().setUp()
        self.server = self.postgres()
        self.pooler = self.pgbouncer()
        direct, pooled = self.server, self.address
        self.migrate(auth_service(self.name("auth-migrate"), direct.url("auth"), self.known))
        self.auths = [
            self.auth(self.server.url("auth", pooled), what=f"auth-{n}", **POOLED) for n in (1, 2)
        ]
        self.migrate(
            user_service(self.name("user-migrate"), direct.url("user"), self.known, self.auths[0])
        )
        self.users = [
            self.user(self.server.url("user", pooled), self.auths[0], what=f"user-{n}", **POOLED)
            for n in (1, 2)
        ]
        for service in (*self.auths, *self.users):
            service.wait_ready()

    def migrate(self, service):
        """The migrate subcommand, on Postgres itself."""
        self.keep(service).command.append("migrate")
        service.start()
        self.assertEqual(0, service.ends(30), service.tail())

    def pgbouncer(self):
        """A PgBouncer with the example's settings."""
        folder = settings.WORK / self.name("pgbouncer")
        folder.mkdir()
        roles = folder / "roles"
        roles.write_text("".join(f'"{name}_service" "{PASSWORD}"\n' for name in ("auth", "user")))
        self.address = f"127.0.0.1:{free_port()}"
        databases = "".join(
            f"{name} = host=127.0.0.1 port={self.server.port}\n" for name in ("auth", "users")
        )
        where = folder / "pgbouncer.ini"
        where.write_text(
            f"[databases]\n{databases}"
            f"{(settings.EXAMPLES / 'pgbouncer/pgbouncer.ini').read_text()}"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.address.split(':')[1]}\n"
            f"unix_socket_dir =\nauth_file = {roles}\n"
        )
        # It refuses to run as root.
        log = folder / "log"
        pooler = Process(["pgbouncer", where], log, user=settings.POSTGRES_USER or None)
        self.addCleanup(pooler.kill)
        pooler.start()

        until(lambda: "listening on" in log.read_text(), 10, pooler.tail)
        return pooler

    def life(self, number):
        """An account from its beginning to its end, at replicas in turn."""
        auth, other_auth = (Client(self.auths[(number + n) % 2].http) for n in (0, 1))
        user, other_user = (Client(self.users[(number + n) % 2].http) for n in (0, 1))
        email = new_email()

        def expect(wanted, answer):
            assert answer.outcome == wanted, f"{wanted} expected: {answer}"
            return answer

        account = expect("201", auth.post("/auth/register", credentials(email))).json
        expect(
            "409 email_already_registered", other_auth.post("/auth/register", credentials(email))
        )
        expect(
            "401 invalid_credentials", other_auth.post("/auth/login", credentials(email, "wrong"))
        )
        login = expect("200", other_auth.post("/auth/login", credentials(email))).json
        token, path = login["access_token"], f"/users/{account['id']}"

        expect("200", user.get(path, token))
        expect("404 user_not_found", user.get(f"/users/{uuid.uuid4()}", token))
        expect("403 forbidden", user.put(f"/users/{uuid.uuid4()}", {"name": "x"}, token))
        for count in range(10):
            read = expect("200", other_user.get(path, token))
            tag = {"If-Match": read.headers["ETag"]}
            body = {"name": f"n{count}", "bio": "b"}
            expect("200", user.put(path, body, token, headers=tag))
            expect("412 precondition_failed", other_user.put(path, body, token, headers=tag))
            expect("200", other_user.patch(path, {"bio": f"b{count}"}, token))
            written = expect("200", user.get(path, token)).json
            assert (written["name"], written["bio"]) == (f"n{count}", f"b{count}"), written
        page, seen = "", 0
        while True:
            answer = expect("200", user.get(f"/users?page_size=7&page_token={page}", token)).json
            seen += len(answer["users"])
            page = answer["next_page_token"]
            if not page:
                break
        assert seen > 0

        expect("204", user.delete(path, token))
        expect("404 user_not_found", other_user.delete(path, token))
        expect("401 account_deleted", other_user.get(path, token))
        gone = lambda: auth.post("/auth/login", credentials(email)).outcome
        until(lambda: gone() == "401 invalid_credentials", 15, "the account is gone")

    def test_twenty_clients_live_a_whole_life_without_an_error(self):
        failures = []

        def run(number):
            try:
                self.life(number)
            except Exception as error:
                failures.append(repr(error)[:500])

        threads = [
            threading.Thread(target=run, args=(number,), daemon=True) for number in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        self.assertEqual([], failures[:3])
        # What is set for one transaction is not left to the next client. A service also has transactions
        # without a client, which last for a moment.
        left = lambda: self.server.query(
            "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE '%_service'"
            " AND state LIKE 'idle in transaction%'"
        )
        until(lambda: left() == "0", 10, "no transaction is left open")

    def test_keys_are_rotated_through_it(self):
        auth = self.auths[0]
        before = auth.rest.get("/.well-known/jwks.json").json["keys"]
        command = auth_service(
            self.name("rotate"), self.server.url("auth", self.address), self.known, **POOLED
        )
        self.keep(command).command += ["keys", "rotate"]
        command.start()
        self.assertEqual(0, command.ends(20), command.tail())
        keys = "SELECT count(*) FROM signing_keys"
        self.assertEqual(str(len(before) + 1), self.server.query(keys, "auth"))

    def test_a_restart_of_it_or_of_postgres_is_a_matter_of_seconds(self):
        with Load(people(self.auths[0].http, 3), self.auths[0].http, self.users[0].http, 6) as load:
            for restart in (self.restart_pooler, self.server.restart):
                time.sleep(0.5)
                restart()

                def fine():
                    load.clear()
                    time.sleep(0.5)
                    return set(load.outcomes) == {"fine"}

                until(fine, 12, f"all requests are fine again after {restart.__name__}")
        others = [line for line in load.failed if AWAY not in line]
        self.assertEqual([], others[:5])

    def restart_pooler(self):
        self.pooler.kill()
        self.pooler.start()
