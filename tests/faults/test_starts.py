"""Replicas that start at once on an empty database."""

from kit import settings
from kit.case import FaultTest
from kit.services import Person, auth_service, user_service

ROUNDS = 4


class Starts(FaultTest):
    def fresh_databases(self, server):
        """The URLs of two empty databases."""
        server.execute("DROP DATABASE IF EXISTS auth WITH (FORCE)")
        server.execute("DROP DATABASE IF EXISTS users WITH (FORCE)")
        server.execute("CREATE DATABASE auth OWNER auth_service")
        server.execute("CREATE DATABASE users OWNER user_service")
        return server.url("auth"), server.url("user")

    def assert_migrated_once(self, server):
        for service, database in (("auth-service", "auth"), ("user-service", "users")):
            versions = server.query("SELECT version FROM _sqlx_migrations", database).split()
            folder = settings.ROOT / service / "migrations/postgres"
            self.assertEqual(len(list(folder.glob("*.sql"))), len(versions))
            self.assertEqual(len(set(versions)), len(versions), versions)
            done = server.query("SELECT bool_and(success) FROM _sqlx_migrations", database)
            self.assertEqual("t", done)

    def test_two_replicas_of_each_service_start_on_an_empty_postgres(self):
        server = self.postgres()
        for round_number in range(ROUNDS):
            auth_url, user_url = self.fresh_databases(server)
            # Made first, so that their starts are as close together as can be.
            auths = [
                auth_service(self.name(f"{round_number}-auth-{n}"), auth_url, self.known)
                for n in (0, 1)
            ]
            users = [
                user_service(self.name(f"{round_number}-user-{n}"), user_url, self.known, auths[n])
                for n in (0, 1)
            ]
            replicas = [self.keep(replica) for replica in (*auths, *users)]
            for replica in replicas:
                replica.start()
            for replica in replicas:
                replica.wait_ready()
            self.assert_migrated_once(server)

            # They agree on the key: a token of one is good for the other's user service.
            keys = [auth.rest.get("/.well-known/jwks.json").json["keys"] for auth in auths]
            self.assertEqual(keys[0], keys[1])
            self.assertEqual("1", server.query("SELECT count(*) FROM signing_keys", "auth"))
            for auth in auths:
                person = Person(auth.rest)
                for user in users:
                    self.assertEqual("200", user.rest.get(person.path, person.token).outcome)
            for replica in replicas:
                self.assertEqual(0, replica.stop(), replica.name)

    def test_two_migrate_commands_at_once_both_succeed(self):
        server = self.postgres()
        for round_number in range(ROUNDS):
            auth_url, user_url = self.fresh_databases(server)
            commands = []
            for n in (1, 2):
                auth = auth_service(self.name(f"{round_number}-auth-{n}"), auth_url, self.known)
                user = user_service(
                    self.name(f"{round_number}-user-{n}"), user_url, self.known, auth
                )
                commands += [self.keep(auth), self.keep(user)]
            for command in commands:
                command.command.append("migrate")
                command.start()
            for command in commands:
                self.assertEqual(0, command.ends(30), command.tail())
            self.assert_migrated_once(server)

    def test_two_replicas_start_on_an_empty_sqlite_file(self):
        folder = settings.WORK / self.name("files")
        folder.mkdir()
        replicas = [
            self.keep(
                auth_service(self.name(f"auth-{n}"), f"sqlite://{folder}/auth.db", self.known)
            )
            for n in (1, 2)
        ]
        for replica in replicas:
            replica.start()
        for replica in replicas:
            replica.wait_ready()
        keys = [auth.rest.get("/.well-known/jwks.json").json["keys"] for auth in replicas]
        self.assertEqual(keys[0], keys[1])
