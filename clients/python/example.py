"""Registers an account, logs in, reads and changes its profile, and reads what errors say.

AUTH_GRPC=localhost:50051 USER_GRPC=localhost:50052 python example.py
"""

import os
import secrets
from dataclasses import dataclass, field

import grpc
from latchkey_client.auth.v1 import auth_service_pb2, auth_service_pb2_grpc
from google.protobuf import field_mask_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from latchkey_client.user.v1 import user_pb2, user_service_pb2, user_service_pb2_grpc

# A call without a deadline can wait for ever.
TIMEOUT = 10  # seconds


@dataclass
class Problem:
    """What the details of a failed call say (google.rpc.Status)."""

    reason: str = ""  # a code of docs/errors.md; empty when the services did not answer
    violations: list[tuple[str, str]] = field(default_factory=list)  # fields and their faults
    retry_after: float | None = None  # seconds

    @classmethod
    def of(cls, error: grpc.RpcError) -> "Problem":
        problem = cls()
        status = rpc_status.from_call(error)
        for detail in status.details if status else []:
            info = error_details_pb2.ErrorInfo()
            bad_request = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                problem.reason = info.reason
            elif detail.Unpack(bad_request):
                problem.violations = [
                    (fault.field, fault.description) for fault in bad_request.field_violations
                ]
            elif detail.Unpack(retry):
                problem.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        return problem


def is_serving(channel: grpc.Channel, service: str) -> bool:
    request = health_pb2.HealthCheckRequest(service=service)
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT)
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def main() -> None:
    # Where the services are behind TLS: secure_channel(target, grpc.ssl_channel_credentials()).
    with (
        grpc.insecure_channel(os.environ.get("AUTH_GRPC", "localhost:50051")) as auth_channel,
        grpc.insecure_channel(os.environ.get("USER_GRPC", "localhost:50052")) as user_channel,
    ):
        print("auth service is serving:", is_serving(auth_channel, "auth.v1.AuthService"))
        print("user service is serving:", is_serving(user_channel, "user.v1.UserService"))
        auth = auth_service_pb2_grpc.AuthServiceStub(auth_channel)
        users = user_service_pb2_grpc.UserServiceStub(user_channel)

        email = f"ada-{secrets.token_hex(8)}@example.com"
        password = secrets.token_urlsafe(16)
        account = auth.Register(
            auth_service_pb2.RegisterRequest(email=email, password=password), timeout=TIMEOUT
        )
        print("registered:", account.id)

        login = auth.Login(
            auth_service_pb2.LoginRequest(email=email, password=password), timeout=TIMEOUT
        )
        print("logged in for", login.expires_in, "seconds")
        bearer = [("authorization", f"Bearer {login.access_token}")]

        # The profile comes into being with the first call that carries the token.
        profile = users.GetUser(
            user_service_pb2.GetUserRequest(id=account.id), metadata=bearer, timeout=TIMEOUT
        ).user
        print("profile of:", profile.email)

        # The mask names what changes; the entity tag refuses the change if another came first.
        profile = users.UpdateUser(
            user_service_pb2.UpdateUserRequest(
                user=user_pb2.User(id=account.id, name="Ada Lovelace"),
                update_mask=field_mask_pb2.FieldMask(paths=["name"]),
                etag=profile.etag,
            ),
            metadata=bearer,
            timeout=TIMEOUT,
        ).user
        print("name:", profile.name)

        try:
            auth.Register(
                auth_service_pb2.RegisterRequest(email="not an address", password="short"),
                timeout=TIMEOUT,
            )
        except grpc.RpcError as error:
            problem = Problem.of(error)
            print("refused:", error.code().name, problem.reason)
            for name, description in problem.violations:
                print(f"  {name}: {description}")

        # Whoever guesses is soon told to wait, and so is whoever knows the password.
        wrong = auth_service_pb2.LoginRequest(email=email, password="a guess")
        for _ in range(20):
            try:
                auth.Login(wrong, timeout=TIMEOUT)
            except grpc.RpcError as error:
                problem = Problem.of(error)
                if problem.retry_after is not None:
                    print(f"{problem.reason}: try again in {problem.retry_after:.0f} s")
                    break


if __name__ == "__main__":
    main()
