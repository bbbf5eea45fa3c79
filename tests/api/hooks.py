"""What Schemathesis cannot read from the documents: who asks, and what is there to ask for.

Valid requests are aimed at the caller's own account and profile, so that they do something. What was
made invalid on purpose is sent as it is.
"""

import itertools
import os
import uuid

import requests
import schemathesis
from schemathesis import HookContext
from schemathesis.generation.meta import ParameterLocation

AUTH_URL = os.environ["AUTH_URL"]
USER_URL = os.environ["USER_URL"]
PASSWORD = "correct horse battery staple"
READ_ONLY = ("id", "email", "created_at", "updated_at")


class Person:
    """An account with its token, and its profile as the last answer showed it."""

    def __init__(self) -> None:
        self.credentials = {"email": f"{uuid.uuid4().hex}@example.com", "password": PASSWORD}
        account = requests.post(f"{AUTH_URL}/auth/register", json=self.credentials, timeout=10)
        account.raise_for_status()
        self.id = account.json()["id"]
        token = requests.post(f"{AUTH_URL}/auth/login", json=self.credentials, timeout=10)
        token.raise_for_status()
        self.authorization = "Bearer " + token.json()["access_token"]
        profile = self.get(f"/users/{self.id}")
        self.seen(profile.json(), profile.headers["ETag"])

    def get(self, path: str) -> requests.Response:
        headers = {"Authorization": self.authorization}
        answer = requests.get(f"{USER_URL}{path}", headers=headers, timeout=10)
        answer.raise_for_status()
        return answer

    def page_token(self) -> str:
        return self.get("/users?page_size=1").json()["next_page_token"]

    def seen(self, profile: dict, etag: str) -> None:
        self.profile = profile
        self.etag = etag


person: Person | None = None
spent: set[str] = set()  # what deleted accounts were authorised with
known: set[str] = set()  # ids of profiles that were there
turn = itertools.count()


def caller() -> Person:
    """Who asks. After a deletion somebody new: the token of a deleted account is of no use."""
    global person
    if person is None:
        person = Person()
    return person


@schemathesis.auth(refresh_interval=None).apply_to(path_regex="^/users")
class AccessToken:
    def get(self, case, context) -> str:
        return caller().authorization

    def set(self, case, authorization: str, context) -> None:
        case.headers = {**(case.headers or {}), "Authorization": authorization}


@schemathesis.hook
def before_add_examples(context: HookContext, examples: list) -> None:
    """Leaves out the examples of what is refused, which `examples.py` sends: here each must succeed."""
    operation = context.operation.definition.raw
    refused = {
        name
        for status, response in operation["responses"].items()
        if status >= "400"
        for media_type in response.get("content", {}).values()
        for name in media_type.get("examples", {})
    }
    bodies = [
        example["value"]
        for media_type in operation.get("requestBody", {}).get("content", {}).values()
        for name, example in media_type.get("examples", {}).items()
        if name in refused
    ]
    examples[:] = [case for case in examples if case.body not in bodies]


@schemathesis.hook
def before_call(context: HookContext, case, kwargs) -> None:
    if case.meta is None:
        return
    number = next(turn)
    path, query, headers, body = (
        case.meta.generation.mode.is_positive or not case.meta.is_negative_at(location)
        for location in (
            ParameterLocation.PATH,
            ParameterLocation.QUERY,
            ParameterLocation.HEADER,
            ParameterLocation.BODY,
        )
    )
    if case.path == "/auth/register" and body and isinstance(case.body, dict):
        # No schema can say which passwords are common, nor how long one may be in bytes.
        password = f"{number:08} {case.body['password']}"
        case.body["password"] = password.encode()[:1024].decode(errors="ignore")
        # Nor which emails have an account. Every other one is new, where there is room in it.
        if number % 2 and case.body["email"].find("@") < 50 and len(case.body["email"]) < 240:
            case.body["email"] = f"{number}-{case.body['email']}"
    if case.path == "/auth/login" and body and number % 2 == 0:
        case.body = caller().credentials
    if case.path == "/users" and query and case.query.get("page_token"):
        case.query = {**case.query, "page_token": caller().page_token()}
    if case.headers.get("Authorization") in spent:
        # A case may be older than the deletion of the account that it was made for.
        case.headers["Authorization"] = caller().authorization
    if case.path == "/users/{id}":
        is_read = case.method == "GET" and case.path_parameters.get("id") in known
        if path and not is_read and number % 8:
            case.path_parameters = {"id": caller().id}
        other = caller().etag if case.method == "GET" else '"another"'
        for name, tag in (("If-Match", caller().etag), ("If-None-Match", other)):
            # The coverage phase knows no valid field that has quotes in it, and sends 0.
            if headers and name in case.headers and (number % 2 or case.headers[name] == "0"):
                case.headers[name] = tag
        if body and isinstance(case.body, dict):
            profile = caller().profile
            case.body = {
                name: profile[name] if name in READ_ONLY else value
                for name, value in case.body.items()
            }


@schemathesis.hook
def after_call(context: HookContext, case, response) -> None:
    global person
    if not case.path.startswith("/users") or response.status_code not in (200, 204):
        return
    if response.request.method == "DELETE":
        spent.add(person.authorization)
        person = None
    elif case.path == "/users":
        known.update(user["id"] for user in response.json()["users"])
    elif response.status_code == 200 and person and response.json()["id"] == person.id:
        known.add(person.id)
        person.seen(response.json(), response.headers["etag"][0])
