"""Whether the OpenAPI documents tell the truth, line by line: sends every example of a request as it is,
and provokes every answer and every problem that a document describes for an operation.

    examples.py AUTH_URL USER_URL LIMITED_URL

The last is an auth service that allows two logins and two registrations a minute, and one failed login
of an account. Prints a line for each check; those that failed begin with FAIL.
"""

import http.client
import json
import sys
import threading
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import requests
import schemathesis
from schemathesis.core.failures import FailureGroup
from schemathesis.core.transport import Response
from schemathesis.specs.openapi import checks

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# It takes a broken database, a crowd or a fault of ours: the services' own tests bring these about.
OUT_OF_REACH = {
    "internal",
    "overloaded",
    "database_unavailable",
    "signing_keys_unavailable",
    # It takes the lifetime of a token.
    "token_expired",
    # It takes other settings, a mailbox, or many mails: `tests/it/credentials` of the auth service has them.
    "registration_closed",
    "email_not_verified",
    "mail_disabled",
    ("resetPassword", 204),
    ("verifyEmail", 204),
    ("verifyEmail", 409),
    ("forgotPassword", 429),
    ("sendVerification", 429),
    ("changeEmail", 429),
    ("changePassword", 429),
    ("deleteOwnAccount", 429),
    ("getHealth", 503),
    ("getReadiness", 503),
}
JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "text/plain"}
PASSWORD = "correct horse battery staple"
NOBODY = "0197a3c2-0000-7000-8000-000000000000"

printing = threading.Lock()


def report(name: str, faults: list[str]) -> None:
    with printing:
        print(f"{'FAIL' if faults else 'ok  '}  {name}")
        for fault in faults:
            print("      " + fault.replace("\n", "\n      "))


class Api:
    """A service by its document."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self.document = json.loads((ROOT / f"{name}-service/openapi.json").read_text())
        schema = schemathesis.openapi.from_dict(self.document)
        self.operations = {
            definition["operationId"]: (method.upper(), path, schema[path][method])
            for path, item in self.document["paths"].items()
            for method, definition in item.items()
            if method != "parameters"
        }
        self.seen = set()

    def described(self, operation: str) -> dict[int, dict]:
        """The responses of an operation by their status."""
        method, path, _ = self.operations[operation]
        responses = self.document["paths"][path][method.lower()]["responses"]
        return {int(status): self.resolved(response) for status, response in responses.items()}

    def resolved(self, part: dict) -> dict:
        target = self.document
        for name in part.get("$ref", "").split("/")[1:]:
            target = target[name]
        return target if "$ref" in part else part

    def send(
        self,
        operation,
        status,
        code=None,
        *,
        note="",
        method=None,
        to="",
        query="",
        headers=None,
        body=None,
        url=None,
        length=None,
    ):
        """Sends one request, and checks that its answer is this one and as the document has it. `to` is
        the value of the path's parameter, `length` how much of a body is announced but never sent."""
        described_method, path, described = self.operations[operation]
        path = path.replace("{id}", to).replace("{file}", to)
        address = urlsplit(url or self.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        connection.putrequest(method or described_method, f"{path}?{query}" if query else path)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        data = body.encode() if isinstance(body, str) else body
        if data is not None or length:
            connection.putheader("Content-Length", str(length or len(data)))
        connection.endheaders(data)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()

        faults = []
        if answer.status != status:
            faults.append(f"status {answer.status} instead of {status}: {content[:300]!r}")
        fields = {}
        for name, value in answer.getheaders():
            fields.setdefault(name.lower(), []).append(value)
        is_json = "json" in answer.getheader("Content-Type", "")
        document = json.loads(content) if is_json and content else {}
        if code and document.get("code") != code:
            faults.append(f"not {code}: {document}")
        if answer.getheader("X-Content-Type-Options") != "nosniff":
            faults.append("no X-Content-Type-Options: nosniff")
        if method == "HEAD":
            if content:
                faults.append("a body in the answer to HEAD")
        else:
            sent = requests.Request(described_method, (url or self.url) + path).prepare()
            response = Response(answer.status, fields, content, sent, 0, False)
            try:
                described.Case(path_parameters={"id": to, "file": to}).validate_response(
                    response, checks=CONFORMANCE
                )
            except FailureGroup as group:
                faults += [str(failure) for failure in group.exceptions]
            self.seen.add((operation, status, code))
        what = " ".join(filter(None, (operation, method, str(status), code, note)))
        report(f"{self.name}: {what}", faults)
        return document, answer

    def check_examples(self, operation: str, **arguments) -> None:
        """Sends the examples of bodies. Where one and an answer's example have the same name, that is the
        answer to it; otherwise it succeeds. The first is sent last, since it may be the one that changes
        what the others meet."""
        method, path, _ = self.operations[operation]
        content = self.document["paths"][path][method.lower()]["requestBody"]["content"]
        outcomes = {
            name: (status, example["value"].get("code"))
            for status, response in self.described(operation).items()
            for media_type in response.get("content", {}).values()
            for name, example in media_type.get("examples", {}).items()
        }
        success = min(self.described(operation)), None
        headers = arguments.pop("headers", {})
        for media_type, described in content.items():
            for name, example in reversed(described["examples"].items()):
                self.send(
                    operation,
                    *outcomes.get(name, success),
                    note=f"(example {name})",
                    headers={**headers, "Content-Type": media_type},
                    body=json.dumps(example["value"]),
                    **arguments,
                )

    def check_every_operation(self, targets: dict[str, str], authorization: dict) -> None:
        """What every operation answers alike."""
        for operation, (method, path, _) in self.operations.items():
            to = targets.get(operation, "")
            described = self.document["paths"][path][method.lower()]
            is_protected = path.startswith("/users") or bool(described.get("security"))
            headers = authorization if is_protected else {}
            self.send(operation, 400, "malformed_request", to=to, query="a=1&a=2", headers=headers)
            if path.startswith(("/auth", "/users")):
                self.send(operation, 400, "validation_failed", to=to, query="a=1", headers=headers)
            _, answer = self.send(
                operation, 405, "method_not_allowed", to=to, method="TRACE", headers=headers
            )
            allowed = {name.upper() for name in self.document["paths"][path]} - {"PARAMETERS"}
            allowed |= {"HEAD"} if "GET" in allowed else set()
            listed = set(answer.getheader("Allow", "").split(","))
            report(f"{self.name}: {path} Allow", [] if listed == allowed else [f"{listed}"])
            if method == "GET":
                # That, or where it leads to.
                status = min(self.described(operation))
                self.send(operation, status, to=to, headers=headers)
                self.send(operation, status, to=to, headers=headers, method="HEAD")
            if 304 in self.described(operation):
                self.send(operation, 304, to=to, headers={**headers, "If-None-Match": "*"})

    def check_body(self, operation: str, headers: dict, **arguments) -> list[threading.Thread]:
        """What every operation with a body answers alike. Returns what is still under way."""

        def send(*outcome, body="{}", media_type=JSON, **more):
            fields = {**headers, **media_type}
            self.send(operation, *outcome, headers=fields, body=body, **more, **arguments)

        send(400, "malformed_json", body="{")
        send(400, "validation_failed", body='{"nickname":"Ada"}')
        send(413, "payload_too_large", body=json.dumps({"name": "a" * 65536}))
        send(415, "unsupported_media_type", media_type=TEXT)
        stalls = threading.Thread(
            target=send, args=(408, "request_timeout"), kwargs={"body": None, "length": 10}
        )
        stalls.start()
        return [stalls]

    def check_nothing_is_left(self) -> None:
        """That each described answer was seen, and is not only described."""
        for operation in self.operations:
            for status, response in self.described(operation).items():
                problem = response.get("content", {}).get("application/problem+json")
                codes = (
                    problem["schema"]["allOf"][1]["properties"]["code"]["enum"]
                    if problem
                    else [None]
                )
                missing = [
                    f"{operation} {status} {code or ''} is described, but nothing here provokes it"
                    for code in codes
                    if not {code, (operation, status)} & OUT_OF_REACH
                    and (operation, status, code) not in self.seen
                ]
                report(f"{self.name}: {operation} {status} is complete", missing)


class Person:
    def __init__(self, auth: Api) -> None:
        self.credentials = {"email": f"{uuid.uuid4().hex}@example.com", "password": PASSWORD}
        self.body = json.dumps(self.credentials)
        account, _ = auth.send("register", 201, headers=JSON, body=self.body)
        token, _ = auth.send("login", 200, headers=JSON, body=self.body)
        self.id = account["id"]
        self.authorization = {"Authorization": "Bearer " + token["access_token"]}


def check_auth(auth: Api, limited: str) -> list[threading.Thread]:
    auth.check_examples("register")
    auth.check_examples("login")
    person = Person(auth)
    auth.send("register", 409, "email_already_registered", headers=JSON, body=person.body)
    wrong = json.dumps({**person.credentials, "password": "wrong horse"})
    auth.send("login", 401, "invalid_credentials", headers=JSON, body=wrong)
    auth.send("getDocsFile", 404, "not_found", to="other.js")
    session = check_sessions(auth, limited)
    auth.check_every_operation(
        {"getDocsFile": "start.js", "endSession": NOBODY}, session.authorization
    )

    there = {"headers": JSON, "url": limited}
    auth.send("register", 201, **there, body=person.body)
    auth.send("register", 409, "email_already_registered", **there, body=person.body)
    auth.send("register", 429, "too_many_requests", **there, body=person.body)
    auth.send("login", 401, "invalid_credentials", **there, body=wrong)
    auth.send("login", 429, "too_many_attempts", **there, body=person.body)
    auth.send("login", 429, "too_many_requests", **there, body=person.body)
    stalls = check_credentials(auth)
    operations = ("register", "login", "refresh", "logout")
    return stalls + [stall for operation in operations for stall in auth.check_body(operation, {})]


def check_credentials(auth: Api) -> list[threading.Thread]:
    """The life of an account, as far as no mail has to be read."""
    person = Person(auth)
    password, new = person.credentials["password"], "battery staple correct horse"
    for operation in ("forgotPassword", "sendVerification", "resetPassword", "verifyEmail"):
        auth.check_examples(operation)
    invalid = {"token": "x" * 43, "new_password": new}
    auth.send("resetPassword", 400, "invalid_link", headers=JSON, body=json.dumps(invalid))
    del invalid["new_password"]
    auth.send("verifyEmail", 400, "invalid_link", headers=JSON, body=json.dumps(invalid))
    stalls = []
    for operation in ("forgotPassword", "sendVerification", "resetPassword", "verifyEmail"):
        stalls += auth.check_body(operation, {})
    for operation in ("changePassword", "changeEmail", "deleteOwnAccount"):
        auth.check_examples(operation, headers=Person(auth).authorization)
        auth.send(operation, 401, "unauthenticated", headers=JSON, body="{}")
        broken = {**JSON, "Authorization": "Bearer x"}
        auth.send(operation, 401, "invalid_token", headers=broken, body="{}")
        stalls += auth.check_body(operation, person.authorization)

    def send(operation, *outcome, body, headers=None):
        fields = {**JSON, **(headers or person.authorization)}
        return auth.send(operation, *outcome, headers=fields, body=json.dumps(body))

    for operation, body in (
        ("changePassword", {"new_password": new}),
        ("changeEmail", {"email": f"{uuid.uuid4().hex}@example.com"}),
        ("deleteOwnAccount", {}),
    ):
        wrong = {**body, "current_password": "wrong horse"}
        send(operation, 403, "invalid_credentials", body=wrong)
    moved = {"email": f"{uuid.uuid4().hex}@example.com", "current_password": password}
    send("changeEmail", 202, body=moved)
    change = {"current_password": password, "new_password": new}
    changed, _ = send("changePassword", 200, body=change)
    for operation in ("changePassword", "changeEmail", "deleteOwnAccount"):
        send(operation, 401, "token_revoked", body={})
    fresh = {"Authorization": "Bearer " + changed["access_token"]}
    send("deleteOwnAccount", 204, body={"current_password": new}, headers=fresh)
    return stalls


def check_sessions(auth: Api, limited: str) -> Person:
    """Everything about sessions. Returns somebody whose token is good."""
    auth.check_examples("refresh")
    auth.check_examples("logout")
    person = Person(auth)
    offline = json.dumps({**person.credentials, "offline_access": True})
    tokens, _ = auth.send("login", 200, note="(offline_access)", headers=JSON, body=offline)
    body = json.dumps({"refresh_token": tokens["refresh_token"]})
    auth.send("refresh", 200, headers=JSON, body=body)
    mine = {"headers": {"Authorization": "Bearer " + tokens["access_token"]}}
    sessions, _ = auth.send("listSessions", 200, **mine)
    auth.send("endSession", 400, "validation_failed", note="(id)", to="1", **mine)
    auth.send("endSession", 404, "session_not_found", to=NOBODY, **mine)
    auth.send("endSession", 204, to=sessions["sessions"][0]["id"], **mine)
    auth.send("endAllSessions", 204, headers=person.authorization)
    for operation in ("listSessions", "endSession", "endAllSessions"):
        auth.send(operation, 401, "unauthenticated", to=NOBODY)
        broken = {"Authorization": "Bearer x"}
        auth.send(operation, 401, "invalid_token", to=NOBODY, headers=broken)
        auth.send(operation, 401, "token_revoked", to=NOBODY, **mine)
    auth.send("getRevocations", 200)
    unknown = {"headers": JSON, "body": '{"refresh_token":"x"}', "url": limited}
    auth.send("refresh", 401, "invalid_refresh_token", **unknown)
    auth.send("refresh", 401, "invalid_refresh_token", **unknown)
    auth.send("refresh", 429, "too_many_requests", **unknown)
    auth.send("logout", 204, headers=JSON, body=body)
    return Person(auth)


def check_user(user: Api, auth: Api) -> list[threading.Thread]:
    owner, other = Person(auth), Person(auth)
    mine = {"to": owner.id, "headers": owner.authorization}
    user.send("getUser", 200, **mine)
    user.check_examples("replaceUser", **mine)
    user.check_examples("patchUser", **mine)
    stalls = []
    targets = dict.fromkeys(("getUser", "replaceUser", "patchUser", "deleteUser"), owner.id)
    user.check_every_operation({**targets, "getDocsFile": "start.js"}, owner.authorization)
    for operation in ("replaceUser", "patchUser"):
        stalls += user.check_body(operation, owner.authorization, to=owner.id)
    user.send("getDocsFile", 404, "not_found", to="other.js")

    user.send(
        "listUsers", 400, "validation_failed", query="page_size=-1", headers=owner.authorization
    )
    user.send(
        "listUsers", 400, "invalid_page_token", query="page_token=x", headers=owner.authorization
    )
    user.send("getUser", 200, to=other.id, headers=other.authorization)
    page, answer = user.send("listUsers", 200, query="page_size=1", headers=owner.authorization)
    link = f'</users?page_size=1&page_token={page["next_page_token"]}>; rel="next"'
    report(
        "user: a page that is not the last one has Link",
        [] if answer.getheader("Link") == link else [link],
    )

    stale = {**owner.authorization, **JSON, "If-Match": '"another"'}
    for operation in targets:
        user.send(operation, 401, "unauthenticated", to=owner.id)
        user.send(
            operation, 401, "invalid_token", to=owner.id, headers={"Authorization": "Bearer x"}
        )
        user.send(
            operation, 400, "validation_failed", note="(id)", to="1", headers=owner.authorization
        )
        user.send(operation, 412, "precondition_failed", to=owner.id, headers=stale, body="{}")
        if operation != "getUser":
            user.send(operation, 403, "forbidden", to=other.id, headers=owner.authorization)
    user.send("getUser", 404, "user_not_found", to=NOBODY, headers=owner.authorization)
    user.send("listUsers", 401, "unauthenticated")
    user.send("listUsers", 401, "invalid_token", headers={"Authorization": "Bearer x"})

    gone = {"to": other.id, "headers": other.authorization}
    user.send("deleteUser", 204, **gone)
    user.send("deleteUser", 404, "user_not_found", **gone)
    for operation in ("getUser", "replaceUser", "patchUser"):
        user.send(operation, 401, "account_deleted", **gone)
    user.send("listUsers", 401, "account_deleted", headers=other.authorization)
    user.send("deleteUser", 401, "account_deleted", to=owner.id, headers=other.authorization)
    return stalls


def main() -> None:
    auth_url, user_url, limited_url = sys.argv[1:]
    auth, user = Api("auth", auth_url), Api("user", user_url)
    stalls = check_auth(auth, limited_url) + check_user(user, auth)
    for stall in stalls:
        stall.join()
    auth.check_nothing_is_left()
    user.check_nothing_is_left()


main()
