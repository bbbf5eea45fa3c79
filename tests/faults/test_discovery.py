"""Replicas of the auth service behind a name in DNS: added, removed, dead, slow, and DNS itself away."""

import signal
import subprocess
import time
import unittest

from kit import settings
from kit.case import FaultTest
from kit.client import Client
from kit.dns import ZONE, Blackhole, Dns
from kit.process import free_port
from kit.services import Person, auth_service, is_active
from kit.wait import until

# What a replica that is added or removed may take: the TTL of a second, and the next call after it.
SOON = 6
# The user service asks for revocations and for deleted accounts every two seconds each.
CALLS = ("/.well-known/revocations", "auth.v1.AccountService/ListDeletedAccounts")


@unittest.skipUnless(settings.COREDNS, "CoreDNS is not there")
class Discovery(FaultTest):
    def setUp(self):
        super().setUp()
        self.dns = Dns(self.name("coredns"))
        self.addCleanup(self.dns.remove)
        self.dns.start()
        self.rest_port, self.grpc_port = free_port(), free_port()
        self.database = self.postgres()

    def replica(self, host, **more):
        """A replica of the auth service at 127.0.0.<host>, ready."""
        service = auth_service(
            self.name(f"auth-{host}"),
            self.database.url("auth"),
            self.known,
            # The lines of the calls, by which the test counts them.
            LOG_LEVEL="debug",
            **more,
        )
        service.http = f"127.0.0.{host}:{self.rest_port}"
        service.grpc = f"127.0.0.{host}:{self.grpc_port}"
        service.rest = Client(service.http)
        service.environment |= {"HTTP_ADDR": service.http, "GRPC_ADDR": service.grpc}
        return self.keep(service).start()

    def replicas(self, *hosts):
        """Replicas, ready and by their host."""
        started = {host: self.replica(host) for host in hosts}
        for service in started.values():
            service.wait_ready()
        return started

    def member(self, what="user", jwks=None, grpc=None, **more):
        """A user service that finds the auth service by name."""
        return self.user(
            self.database.url("user"),
            (f"{ZONE}:{self.rest_port}", f"{ZONE}:{self.grpc_port}"),
            what=what,
            DNS_SERVERS=self.dns.address,
            **({"JWKS_URL": jwks} if jwks else {}),
            **({"AUTH_GRPC_URL": grpc} if grpc else {}),
            **more,
        )

    def hosts(self, *hosts):
        """The records of a name with these addresses."""
        return [f"@ A 127.0.0.{host}" for host in hosts]

    def calls(self, service, kind):
        """How many calls of a kind a replica has had, by its log."""
        return service.log.read_text(errors="replace").count(kind)

    def count(self, replicas, seconds):
        """How many calls of each kind each replica gets in this time."""
        before = {host: [self.calls(s, kind) for kind in CALLS] for host, s in replicas.items()}
        time.sleep(seconds)
        return {
            host: [self.calls(s, kind) - b for kind, b in zip(CALLS, before[host])]
            for host, s in replicas.items()
        }

    def assert_deletions_are_fast(self, user, replica, count=4):
        """Deletions arrive although an address is dead: none waits for a timeout, which is 5 s."""
        for _ in range(count):
            person = Person(replica.rest)
            answer = Client(user.http).get(person.path, person.token)
            self.assertEqual("200", answer.outcome)
            self.assertEqual("204", Client(user.http).delete(person.path, person.token).outcome)
            began = time.monotonic()
            gone = lambda: not is_active(replica, self.known, person.token)
            until(gone, 10, lambda: f"the deletion arrives\n{user.tail(30)}")
            self.assertLess(time.monotonic() - began, 2.5)

    def test_a_replica_that_is_added_gets_calls_and_one_that_is_removed_gets_none(self):
        self.dns.change(*self.hosts(11, 12))
        replicas = self.replicas(11, 12, 13)
        self.member().wait_ready()
        counts = self.count(replicas, 9)
        for host in (11, 12):
            self.assertTrue(all(count >= 1 for count in counts[host]), counts)
        self.assertEqual([0, 0], counts[13])

        self.dns.change(*self.hosts(12, 13))
        time.sleep(SOON)
        counts = self.count(replicas, 9)
        for host in (12, 13):
            self.assertTrue(all(count >= 1 for count in counts[host]), counts)
        # No connection is kept to what DNS no longer names.
        self.assertEqual([0, 0], counts[11])

    def test_a_dead_replica_costs_a_fraction_of_a_second(self):
        self.dns.change(*self.hosts(11, 12, 13))
        replicas = self.replicas(11, 12, 13)
        user = self.member().wait_ready()
        with self.subTest("its machine refuses connections"):
            replicas[11].kill()
            self.assert_deletions_are_fast(user, replicas[12])
        with self.subTest("its machine is gone"):
            holes = [Blackhole("127.0.0.11", port) for port in (self.rest_port, self.grpc_port)]
            self.assert_deletions_are_fast(user, replicas[12])
            for hole in holes:
                hole.close()
        with self.subTest("it hangs, and its connections are open"):

            replicas[13].send(signal.SIGSTOP)
            self.assert_deletions_are_fast(user, replicas[12])
            replicas[13].send(signal.SIGCONT)
        with self.subTest("a service that starts while only one replica lives"):
            late = self.member("late")
            began = time.monotonic()
            late.wait_ready(10)
            self.assertLess(time.monotonic() - began, 8)
        with self.subTest("it is back"):
            replicas[11].start().wait_ready()
            until(lambda: sum(self.count(replicas, 3)[11]) > 0, 40, "the replica gets calls again")

    def test_the_last_answer_outlives_dns(self):
        self.dns.change(*self.hosts(11, 12))
        replicas = self.replicas(11, 12)
        user = self.member().wait_ready()
        # Each URL is resolved by itself, that of gRPC with the first call.
        self.assert_deletions_are_fast(user, replicas[11], count=1)
        outages = {
            "no server": (self.dns.process.kill, self.dns.start),
            "a server that hangs": (self.dns.pause, self.dns.go_on),
            "an empty answer": (lambda: self.dns.change("@ TXT empty"), lambda: None),
            "an unknown name": (lambda: self.dns.change("other A 127.0.0.1"), lambda: None),
        }
        for outage, (begin, end) in outages.items():
            with self.subTest(outage):
                begin()
                try:
                    time.sleep(2)
                    counts = self.count(replicas, 5)
                    self.assertTrue(all(sum(both) >= 1 for both in counts.values()), counts)
                    self.assert_deletions_are_fast(user, replicas[11], count=1)
                    self.assertTrue(user.is_ready())
                finally:
                    end()
                    self.dns.change(*self.hosts(11, 12))

    def test_a_name_that_is_not_there_yet_is_waited_for(self):
        self.replicas(11)
        absences = {
            "an unknown name": lambda: self.dns.change("other A 127.0.0.1"),
            "an empty answer": lambda: self.dns.change("@ TXT empty"),
            "no server": self.dns.process.kill,
        }
        for number, (absence, begin) in enumerate(absences.items()):
            with self.subTest(absence):
                begin()
                user = self.member(f"user-{number}")
                until(lambda: user.rest.get("/livez").status == 200, 15, "it lives")
                time.sleep(2)
                self.assertFalse(user.is_ready())
                if self.dns.process.is_running():
                    self.dns.change(*self.hosts(11))
                else:
                    self.dns.set(*self.hosts(11))
                    self.dns.start()
                user.wait_ready(12)
                user.kill()

    def test_srv_records_tell_ports_priorities_and_weights(self):
        first, second, third = self.replicas(11, 12, 13).values()
        records = []
        for service, port in (("_jwks._tcp", self.rest_port), ("_grpc._tcp", self.grpc_port)):
            records += [
                f"{service} SRV 10 3 {port} a",
                f"{service} SRV 10 1 {port} b",
                f"{service} SRV 20 9 {port} c",
            ]
        names = ["a A 127.0.0.11", "b A 127.0.0.12", "c A 127.0.0.13"]
        self.dns.change(*records, *names)
        user = self.member(
            jwks=f"srv+http://_jwks._tcp.{ZONE}/.well-known/jwks.json",
            grpc=f"srv+http://_grpc._tcp.{ZONE}",
        ).wait_ready()
        counts = self.count({1: first, 2: second, 3: third}, 17)
        self.assertEqual([0, 0], counts[3], counts)
        # Three to one; on a busy machine a slow answer leaves a call to the other.
        self.assertGreater(sum(counts[1]), sum(counts[2]), counts)
        self.assertGreaterEqual(sum(counts[2]), 1, counts)
        # Those of the first priority die: the next takes over.
        first.kill()
        second.kill()
        self.assert_deletions_are_fast(user, third)

    def certificate(self, folder, name, extension, authority=None):
        """A key and a certificate, of an authority or its own."""
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", extension]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        if authority:
            command += ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key"]
            command += ["-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    def test_the_certificate_of_an_srv_name_is_that_of_the_service(self):
        folder = settings.WORK / self.name("pki")
        folder.mkdir()
        self.certificate(folder, "ca", "basicConstraints=critical,CA:TRUE")
        for name in ("other.test", ZONE):
            self.certificate(folder, name, f"subjectAltName=DNS:{name}", authority="ca")
        for name in ("other.test", ZONE):
            with self.subTest(name):
                self.dns.change(f"_jwks._tcp SRV 0 0 {self.rest_port} a", "a A 127.0.0.11")
                files = {"TLS_CERT_FILE": f"{folder}/{name}.pem", "TLS_KEY_FILE": f"{folder}/{name}.key"}
                replica = self.replica(11, **files)
                until(lambda: '"listening"' in replica.tail(100), 15, replica.tail)
                user = self.member(
                    f"user-{name}",
                    jwks=f"srv+https://_jwks._tcp.{ZONE}/.well-known/jwks.json",
                    TLS_CA_FILE=f"{folder}/ca.pem",
                )
                if name == ZONE:
                    user.wait_ready(15)
                else:
                    until(lambda: user.rest.get("/livez").status == 200, 15, "it lives")
                    until(lambda: "not valid for name" in user.tail(100), 10, user.tail)
                    self.assertFalse(user.is_ready())
                user.kill()
                replica.kill()
