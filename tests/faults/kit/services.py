"""The two services as processes, and what a person does with them."""

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid

from kit import settings
from kit.client import Client
from kit.http2 import Grpc, text_field
from kit.process import Process, free_port
from kit.wait import until

PASSWORD = "S3cureP@ss"
AUDIENCE = "latchkey"
ISSUER = "http://auth.test"


class Service(Process):
    """One replica of a service."""

    def __init__(self, name, binary, environment, limits=""):
        self.name = name
        self.http = f"127.0.0.1:{free_port()}"
        self.grpc = f"127.0.0.1:{free_port()}"
        everything = {
            "HTTP_ADDR": self.http,
            "GRPC_ADDR": self.grpc,
            "ADMIN_ADDR": "off",
            "LOG_FORMAT": "json",
            **{name: value for name, value in environment.items() if value is not None},
        }
        # A directory of its own, where no .env is read.
        folder = settings.WORK / name
        folder.mkdir(mode=0o755, exist_ok=True)
        command = [settings.BINARIES / binary]
        super().__init__(command, folder / "log", everything, limits=limits)
        self.rest = Client(self.http)

    def is_ready(self):
        """Whether it says so."""
        if not self.is_running():
            raise AssertionError(
                f"{self.name} has ended with {self.child.returncode}\n{self.tail()}"
            )
        return Client(self.http, timeout=5).get("/readyz").status == 200

    def wait_ready(self, seconds=30):
        """Waits until it says that it is ready."""
        until(self.is_ready, seconds, lambda: f"{self.name} is ready\n{self.tail()}")
        return self

    def panics(self):
        """The lines of its log that tell of a panic or of an operation that our code got wrong."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [line for line in lines if "panicked" in line or '"level":"ERROR"' in line]


class Secrets:
    """What the replicas of one installation know."""

    def __init__(self):
        self.key_encryption_key = base64.b64encode(secrets.token_bytes(32)).decode()
        self.service_token = secrets.token_hex(32)
        self.jwt_secret = secrets.token_hex(32)


def auth_service(name, database_url, known, limits="", **more):
    """A replica of the auth service, without limits on the number of requests. `more` are further
    settings; None unsets one."""
    environment = {
        "DATABASE_URL": database_url,
        "KEY_ENCRYPTION_KEY": known.key_encryption_key,
        "SERVICE_TOKEN": known.service_token,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "BCRYPT_COST": "10",
        "LOGINS_PER_MINUTE": "0",
        "REGISTRATIONS_PER_MINUTE": "0",
        "HASH_QUEUE_TIMEOUT": "20",
    }
    return Service(name, "auth-service", {**environment, **more}, limits)


def user_service(name, database_url, known, auth, limits="", **more):
    """A replica of the user service that is told of `auth`, a Service or (REST, gRPC) addresses."""
    rest, grpc = (auth.http, auth.grpc) if isinstance(auth, Service) else auth
    environment = {
        "DATABASE_URL": database_url,
        "SERVICE_TOKEN": known.service_token,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWKS_URL": f"http://{rest}/.well-known/jwks.json",
        "AUTH_GRPC_URL": f"http://{grpc}",
    }
    return Service(name, "user-service", {**environment, **more}, limits)


def shared_secret(known):
    """Settings of the auth and of the user service for tokens that these tests can issue themselves."""
    signing = {"JWT_ALGORITHM": "HS256", "JWT_SECRET": known.jwt_secret, "KEY_ENCRYPTION_KEY": None}
    return signing, {"JWT_SECRET": known.jwt_secret, "JWKS_URL": None}


def _segment(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def issue_token(known, account, email):
    """A token as the auth service issues it under HS256, without the work of a login."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": account,
        "email": email,
        "iat": now,
        "exp": now + 3600,
        "jti": str(uuid.uuid4()),
    }
    signed = ".".join(
        _segment(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "at+jwt"}, claims)
    )
    signature = hmac.new(known.jwt_secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_segment(signature)}"


def new_email():
    """An address that nobody has."""
    return f"p{secrets.token_hex(8)}@example.com"


def credentials(email, password=PASSWORD):
    """The body of a registration and of a login."""
    return {"email": email, "password": password}


class Person:
    """Somebody with an account: registered and logged in."""

    def __init__(self, rest):
        self.email = new_email()
        registered = rest.post("/auth/register", credentials(self.email))
        assert registered.status == 201, registered
        self.id = registered.json["id"]
        login = rest.post("/auth/login", credentials(self.email))
        assert login.status == 200, login
        self.token = login.json["access_token"]
        self.path = f"/users/{self.id}"


def is_active(auth, known, token):
    """What introspection says of a token at the gRPC edge of `auth`."""
    with Grpc(auth.grpc) as grpc:
        messages = grpc.call(
            "/auth.v1.AuthService/IntrospectToken",
            text_field(1, token),
            {"authorization": f"Bearer {known.service_token}"},
        )
    assert messages, "introspection was refused"
    # Field 1 is `active`, and false is not sent.
    return messages[0].startswith(b"\x08\x01")
