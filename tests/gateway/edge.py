"""What the gateway lets through and what it shuts, with both real services behind it."""

import base64
import concurrent.futures
import http.client
import importlib
import json
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from checks import check
from stack import (
    SERVICE_TOKEN,
    Ports,
    auth_service,
    envoy,
    ready,
    request,
    until,
    user_service,
)

PASSWORD = "correct horse battery staple"
PROBLEM = "application/problem+json"
# Methods and paths that are for services and operators.
SHUT = [
    "/auth.v1.AuthService/IntrospectToken",
    "/auth.v1.AccountService/DeleteAccount",
    "/auth.v1.AccountService/ListDeletedAccounts",
    "/auth.v1.AdminService/ListAccounts",
    "/auth.v1.AdminService/RemoveAccount",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.health.v1.Health/Check",
    "/metrics",
    "/livez",
    "/readyz",
    "/health",
]
SPELLINGS = [
    "//auth.v1.AuthService/IntrospectToken",
    "/auth.v1.AuthService//IntrospectToken",
    "/auth.v1.AuthService/./IntrospectToken",
    "/auth.v1.AuthService/x/../IntrospectToken",
    "/auth/../auth.v1.AuthService/IntrospectToken",
    "/users/../auth.v1.AccountService/DeleteAccount",
    "/auth.v1.AuthService%2FIntrospectToken",
    "/auth.v1.AuthService%2fIntrospectToken",
    "/auth.v1.AuthService\\IntrospectToken",
    "/auth.v1.AuthService%5cIntrospectToken",
    "/auth.v1.AuthService/%49ntrospectToken",
    "/auth.v1.AuthService/Introspect%54oken",
    "/auth.v1.AuthService/IntrospectToken/",
    "/auth.v1.AuthService/IntrospectToken?x=/auth.v1.AuthService/Login",
    "/auth.v1.AuthService/IntrospectToken;/Login",
    "/AUTH.V1.AuthService/IntrospectToken",
    "/auth/..%2fmetrics",
    "/auth/%2e%2e/metrics",
]


def bearer(token):
    return [("authorization", f"Bearer {token}")]


def problem(answer, status, code):
    """Whether this is a problem document as the services write them."""
    document = answer.json
    return (
        answer.status == status
        and answer.header("content-type") == PROBLEM
        and document.get("status") == status
        and document.get("code") == code
        and document.get("type") == f"/errors#{code}"
        and isinstance(document.get("title"), str)
        and isinstance(document.get("detail"), str)
        and document.get("request_id") == answer.header("x-request-id") != ""
        and answer.header("cache-control") == "no-store"
        and answer.header("x-content-type-options") == "nosniff"
    )


def run(work, descriptors):
    ports = Ports()
    work = work / "edge"
    work.mkdir()
    gateway = envoy(work, ports, descriptors)
    without_keys(ports)
    auth = auth_service(work, ports, LOGINS_PER_MINUTE="7")
    user = user_service(work, ports)
    until(lambda: ready(ports.auth) and ready(ports.user), 30, lambda: auth.text() + user.text())
    port = ports.gateway

    credentials = {"email": "ada@example.com", "password": PASSWORD}
    until(
        lambda: request(port, "GET", "/.well-known/jwks.json").status == 200,
        10,
        "the gateway sees the auth service",
    )
    account = request(port, "POST", "/auth/register", body=credentials)
    check("register through the gateway", account.status == 201, account)
    login = request(port, "POST", "/auth/login", body=credentials)
    check("log in through the gateway", login.status == 200, login)
    token, path = login.json["access_token"], f"/users/{account.json['id']}"
    arrived = until(
        lambda: (answer := request(port, "GET", path, bearer(token))).status == 200 and answer,
        10,
        gateway.text,
    )
    direct = request(ports.user, "GET", path, bearer(token))
    check("the own profile is that of the service", arrived.json == direct.json, arrived)

    refusals(port, ports, path, token)
    calls(port, token, account.json["id"], credentials)
    transcoding(port, token, account.json["id"], credentials)
    shut(port, ports, auth, user, token)
    context(port, auth, user, path, token, credentials)
    floods(port)

    user.stop()
    answer = until(
        lambda: (it := request(port, "GET", path, bearer(token))).status == 503 and it,
        10,
        "the user service is away",
    )
    check("a service that is away is a 503 with a document", problem(answer, 503, "service_unavailable"), answer)
    log = gateway.text()
    check("no token is in the gateway's log", token not in log and SERVICE_TOKEN not in log)
    gateway.stop()
    auth.stop()


def without_keys(ports):
    claims = {"iss": "http://localhost:3000", "aud": "latchkey", "exp": time.time() + 60, "sub": "x"}
    parts = ({"alg": "RS256", "kid": "x"}, claims, "signature")
    token = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )
    answer = request(ports.gateway, "GET", "/users/me", bearer(token))
    check(
        "a gateway without keys refuses, and says so",
        problem(answer, 503, "signing_keys_unavailable") and answer.header("retry-after") == "1",
        answer,
    )
    answer = request(ports.gateway, "POST", "/auth/login", body={})
    check("the auth service away: 503", problem(answer, 503, "service_unavailable"), answer)


def refusals(port, ports, path, token):
    """The gateway's own refusals beside those of the service."""
    for name, fields in [
        ("no token", []),
        ("garbage", bearer("garbage")),
        ("a broken signature", bearer(token[:-6] + "AAAAAA")),
        ("another scheme", [("authorization", "Basic YTpi")]),
        ("two tokens", [*bearer(token), *bearer(token)]),
        ("a lower-case scheme", [("authorization", f"bearer {token}")]),
        ("an upper-case scheme", [("authorization", f"BEARER {token}")]),
    ]:
        at_gateway = request(port, "GET", path, fields)
        direct = request(ports.user, "GET", path, fields)
        same = [
            (it.status, it.json.get("code"), it.header("www-authenticate"), it.header("content-type"))
            for it in (at_gateway, direct)
        ]
        check(f"{name}: the same answer as the service gives", same[0] == same[1], same)
    answer = request(port, "GET", f"/users/me?access_token={token}")
    check("a token in the query string is not read", problem(answer, 401, "unauthenticated"), answer)
    answer = request(port, "GET", "/nothing")
    check("an unknown path is a 404 with a document", problem(answer, 404, "not_found"), answer)
    answer = request(port, "GET", path, [*bearer(token), ("x_request_id", "1")])
    same = answer.status == 200 and answer.header("x-request-id") not in ("", "1")
    check("a field with an underscore is no other name of one with a dash", same, answer)
    answer = request(port, "GET", path, [*bearer(token), ("x-large", "a" * 20000)])
    check("a header section that is too large is refused", answer.status in (400, 431), answer)
    answer = request(port, "POST", "/auth/login", body=b"{" + b" " * 70000 + b"}")
    check("a body over 64 KiB gets the service's 413 or 415", answer.status in (413, 415), answer)


def calls(port, token, id, credentials):
    """Native gRPC."""
    auth_pb2 = importlib.import_module("auth.v1.auth_service_pb2")
    auth_grpc = importlib.import_module("auth.v1.auth_service_pb2_grpc")
    user_pb2 = importlib.import_module("user.v1.user_service_pb2")
    user_grpc = importlib.import_module("user.v1.user_service_pb2_grpc")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        auth, user = auth_grpc.AuthServiceStub(channel), user_grpc.UserServiceStub(channel)

        def outcome(call, message, metadata=()):
            try:
                return call(message, metadata=metadata, timeout=20)
            except grpc.RpcError as error:
                return error

        got = outcome(user.GetUser, user_pb2.GetUserRequest(id=id), bearer(token))
        check("gRPC: GetUser answers", getattr(got, "user", got) and "ada@" in str(got), got)
        for name, metadata in [("no token", ()), ("a forged token", bearer(token[:-6] + "AAAAAA"))]:
            got = outcome(user.GetUser, user_pb2.GetUserRequest(id=id), metadata)
            check(
                f"gRPC: {name} is UNAUTHENTICATED, without a document in the message",
                got.code() == grpc.StatusCode.UNAUTHENTICATED and "{" not in got.details(),
                got,
            )
        wrong = auth_pb2.LoginRequest(email=credentials["email"], password="wrong horse")
        got = outcome(auth.Login, wrong)
        reason = error_details_pb2.ErrorInfo()
        details = rpc_status.from_call(got)
        unpacked = [it.Unpack(reason) for it in details.details if it.Is(reason.DESCRIPTOR)]
        check(
            "gRPC: a refusal of the service keeps its details",
            unpacked and reason.reason == "invalid_credentials" and reason.domain == "latchkey",
            got,
        )
        got = outcome(
            auth.IntrospectToken,
            auth_pb2.IntrospectTokenRequest(token=token),
            bearer(SERVICE_TOKEN),
        )
        check(
            "gRPC: IntrospectToken with the right service token is UNIMPLEMENTED here",
            got.code() == grpc.StatusCode.UNIMPLEMENTED,
            got,
        )


def transcoding(port, token, id, credentials):
    """JSON in the place of gRPC."""
    answer = request(port, "POST", "/user.v1.UserService/GetUser", bearer(token), {"id": id})
    user = answer.json.get("user", answer.json)
    check("JSON: GetUser answers", answer.status == 200 and user.get("email") == "ada@example.com", answer)
    answer = request(port, "POST", "/user.v1.UserService/GetUser", body={"id": id})
    check("JSON: without a token it is the 401 of REST", problem(answer, 401, "unauthenticated"), answer)
    wrong = {**credentials, "password": "wrong horse"}
    answer = request(port, "POST", "/auth.v1.AuthService/Login", body=wrong)
    check(
        "JSON: a refusal keeps its status and details",
        answer.status == 401 and "invalid_credentials" in json.dumps(answer.json.get("details", "")),
        answer,
    )
    answer = request(port, "POST", "/auth.v1.AuthService/Register", body={"email": "x", "password": "y"})
    violations = [
        fault["field"]
        for detail in answer.json.get("details", [])
        for fault in detail.get("fieldViolations", detail.get("field_violations", []))
    ]
    check(
        "JSON: faults of single members are told",
        answer.status == 400 and sorted(violations) == ["email", "password"],
        answer,
    )
    sessions(port, credentials)
    answer = request(port, "POST", "/auth.v1.AuthService/Login", body=b"{", fields=[("content-type", "application/json")])
    check("JSON: malformed JSON is a 400", answer.status == 400, answer)


def sessions(port, credentials):
    """The methods of sessions and credentials, with a session that they themselves begin and end."""
    def call(method, body, token=""):
        return request(port, "POST", f"/auth.v1.{method}", bearer(token) if token else [], body)

    person = {**credentials, "email": "grace@example.com"}
    call("AuthService/Register", person)
    began = call("AuthService/Login", {**person, "offline_access": True}).json
    renewed = call("SessionService/Refresh", {"refresh_token": began.get("refresh_token", "")})
    token = renewed.json.get("access_token", "")
    check("JSON: a session is refreshed", renewed.status == 200 and token, renewed)
    listed = call("SessionService/ListSessions", {}, token)
    found = listed.json.get("sessions", [])
    check("JSON: sessions are listed", len(found) == 1 and found[0].get("current") is True, listed)
    answer = call("SessionService/ListSessions", {})
    details = json.dumps(answer.json.get("details", ""))
    check(
        "JSON: sessions need a token, says the service",
        answer.status == 401 and "unauthenticated" in details,
        answer,
    )
    changed = {"current_password": "wrong horse", "new_password": f"{PASSWORD} again"}
    answer = call("CredentialService/ChangePassword", changed, token)
    details = json.dumps(answer.json.get("details", ""))
    check(
        "JSON: a refusal of a change of the password is told",
        answer.status in (400, 401, 403) and "google.rpc.ErrorInfo" in details,
        answer,
    )
    answer = call("CredentialService/ChangePassword", {**changed, "current_password": PASSWORD}, token)
    check("JSON: the password is changed", answer.status == 200 and answer.json.get("access_token"), answer)
    refresh = {"refresh_token": renewed.json.get("refresh_token", "")}
    answer = call("SessionService/Logout", refresh)
    check("JSON: a session is ended", answer.status == 200, answer)
    answer = call("SessionService/Refresh", refresh)
    check("JSON: and cannot be refreshed", answer.status == 401, answer)


def shut(port, ports, auth, user, token):
    """Methods that are not for the outside, in every spelling, as JSON and as gRPC, with the right token."""
    before = len(list(auth.lines())) + len(list(user.lines()))
    for path in [*SHUT, *SPELLINGS]:
        for kind in ("application/json", "application/grpc", ""):
            for method in ("POST", "GET"):
                fields = [*bearer(SERVICE_TOKEN), *([("content-type", kind)] if kind else [])]
                answer = request(port, method, path, fields, b"{}" if kind.endswith("json") else b"")
                status = answer.header("grpc-status")
                refused = answer.status in (400, 404) or (answer.status == 200 and status in ("3", "12", "13"))
                if not refused or b"signing" in answer.body or b"# TYPE" in answer.body:
                    check(f"{method} {path} as {kind or 'nothing'} is shut", False, answer)
                    return
    time.sleep(0.5)
    seen = [
        line
        for line in [*auth.lines(), *user.lines()][before:]
        if line.get("target") == "access" and "Introspect" in json.dumps(line)
    ]
    check(f"{len(SHUT) + len(SPELLINGS)} paths of services and operators are shut", not seen, seen)


def line_of(service, request_id):
    def found():
        for line in service.lines():
            if line.get("request_id") == request_id and "status" in line:
                return line

    return until(found, 10, f"a line of {request_id} in the log of {service.name}")


def context(port, auth, user, path, token, credentials):
    """What the services are told of a request."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    fields = [("x-request-id", "of-the-caller.1"), ("traceparent", f"00-{trace}-b7ad6b7169203331-01")]
    answer = request(port, "GET", path, [*bearer(token), *fields])
    line = line_of(user, "of-the-caller.1")
    check("the caller's request id is kept and answered", answer.headers.get("x-request-id") == ["of-the-caller.1"], answer)
    check("the caller's trace goes on", line.get("trace_id") == trace, line)
    answer = request(port, "GET", path, bearer(token))
    made = answer.header("x-request-id")
    check("a request without an id gets one", len(made) == 36 and line_of(user, made), answer)
    answer = request(port, "GET", path, [*bearer(token), ("x-request-id", "a b")])
    check("what is no request id is replaced", answer.status == 200 and answer.header("x-request-id") != "a b", answer)

    # Two clients. One says that it is the other, in both fields that proxies use.
    def attempts(source, count, *fields):
        return [
            request(port, "POST", "/auth/login", fields, {**credentials, "password": "no"}, source).status
            for _ in range(count)
        ]

    forged = [("x-forwarded-for", "127.0.0.51"), ("forwarded", "for=127.0.0.51")]
    first = attempts("127.0.0.50", 9, *forged)
    second = attempts("127.0.0.51", 1)
    check(
        "limits are those of each client, whatever it says of itself",
        first == [401] * 7 + [429] * 2 and second == [401],
        (first, second),
    )


def floods(port):
    """More than the gateway's bucket holds, from one client, while another one is served."""
    def many(_):
        connection = http.client.HTTPConnection("127.0.0.1", port, 20, ("127.0.0.60", 0))
        seen = []
        for _ in range(400):
            connection.request("GET", "/nothing")
            answer = connection.getresponse()
            answer.read()
            seen.append(answer.status)
        connection.close()
        return seen

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        statuses = sum(pool.map(many, range(4)), [])
    refused = statuses.count(429)
    check(f"a flood from one client is refused: {refused} of {len(statuses)}", refused > 100, statuses[-5:])
    answer = request(port, "GET", "/nothing", source="127.0.0.60")
    if answer.status == 429:
        check("such a refusal is a document", problem(answer, 429, "too_many_requests"), answer)
    answer = request(port, "GET", "/nothing", source="127.0.0.61")
    check("another client is served meanwhile", answer.status == 404, answer)
