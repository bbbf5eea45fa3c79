"""Requests of each kind, and what /metrics says after them."""

import re
import threading

from kit import Person, grpc, request, until


def make_traffic(latchkey, person):
    """One of each kind of answer. Returns what went wrong."""
    outcomes = [
        ("register", person.register(), 201),
        ("login", person.login(), 200),
        ("read", person.read(), 200),
        ("rename", person.rename(), 200),
        ("read without a token", request("GET", latchkey.user_http, f"/users/{person.id}")[0], 401),
        ("a token in the query", person.read_by_query(), 400),
        ("a session", person.stay_logged_in(), 200),
        ("unknown path", request("GET", latchkey.auth_http, f"/{person.path}")[0], 404),
        ("gRPC login", person.grpc_login(), 0),
        ("gRPC read", person.grpc_read(person.bearer()), 0),
        ("gRPC read without a token", person.grpc_read(), 16),
        ("gRPC health", grpc(latchkey.auth_grpc, "/grpc.health.v1.Health/Check"), 0),
        ("gRPC health", grpc(latchkey.user_grpc, "/grpc.health.v1.Health/Check"), 0),
    ]
    return [f"{what}: {got} instead of {expected}" for what, got, expected in outcomes
            if got != expected]


def throttle(latchkey):
    """Guesses at an account until that is refused."""
    victim = Person(latchkey)
    return [victim.login(password=victim.wrong) for _ in range(4)][-1]


def overload(latchkey):
    """More logins at once than the one hashing thread can do in a second, on both edges. How many
    these are depends on the build and the machine, so it tries with more and more."""
    def refused(count):
        people = [Person(latchkey) for _ in range(count)]
        threads = [threading.Thread(target=person.login) for person in people]
        threads += [threading.Thread(target=person.grpc_login) for person in people[:8]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        text = scrape(latchkey)["auth-service"]
        return (re.search(r'route="/auth/login",http_response_status_code="503"', text)
                and re.search(r'AuthService/Login",rpc_response_status_code="UNAVAILABLE"', text))
    return any(refused(count) for count in (40, 80, 160, 240))


def leave(latchkey):
    """Does not wait for the answer to a login, which takes longer than this."""
    request("POST", latchkey.auth_http, "/auth/login", Person(latchkey).credentials(), timeout=0.02)
    return until(lambda: 'route="/auth/login",http_response_status_code="499"' in
                 scrape(latchkey)["auth-service"], 5)


def scrape(latchkey):
    return {job: request("GET", at, "/metrics")[1] for job, at in latchkey.metrics.items()}
