"""The generated clients against the running services."""

import uuid

import grpc
import pytest
from latchkey_client.auth.v1.auth_service_pb2 import LoginRequest, RegisterRequest
from google.protobuf.field_mask_pb2 import FieldMask
from latchkey_client.user.v1.user_pb2 import User
from latchkey_client.user.v1.user_service_pb2 import DeleteUserRequest, GetUserRequest, UpdateUserRequest

import example
from example import TIMEOUT, Problem, is_serving


def refusal(call, request, **options):
    """The status code and the details of a call that has to fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=TIMEOUT, **options)
    return caught.value.code(), Problem.of(caught.value)


def test_the_example_runs(capsys):
    example.main()
    printed = capsys.readouterr().out
    assert "auth service is serving: True\nuser service is serving: True\n" in printed
    assert "name: Ada Lovelace\n" in printed
    assert "refused: INVALID_ARGUMENT validation_failed\n  email: " in printed
    assert "too_many_attempts: try again in " in printed


def test_a_profile_is_read_and_changed_member_by_member(users, account):
    first = users.GetUser(GetUserRequest(id=account.id), metadata=account.bearer).user
    assert (first.id, first.email, first.name, first.bio) == (account.id, account.email, "", "")
    assert first.created_at.ToDatetime().year >= 2025

    def update(paths, **members):
        request = UpdateUserRequest(
            user=User(id=account.id, **members), update_mask=FieldMask(paths=paths)
        )
        return users.UpdateUser(request, metadata=account.bearer, timeout=TIMEOUT).user

    update(["name", "bio"], name="Ada", bio="Counts.")
    second = update(["name"], name="Ada Lovelace", bio="is not in the mask")
    assert (second.name, second.bio) == ("Ada Lovelace", "Counts.")
    assert second.etag != first.etag
    assert users.GetUser(GetUserRequest(id=account.id), metadata=account.bearer).user == second


def test_all_faults_of_the_input_come_at_once(auth):
    code, problem = refusal(
        auth.Register, RegisterRequest(email="not an address", password="short")
    )
    assert (code, problem.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "validation_failed")
    assert [name for name, _ in problem.violations] == ["email", "password"]
    assert all(description for _, description in problem.violations)
    assert problem.retry_after is None


def test_a_mask_with_an_unknown_path_is_refused(users, account):
    request = UpdateUserRequest(user=User(id=account.id), update_mask=FieldMask(paths=["nickname"]))
    code, problem = refusal(users.UpdateUser, request, metadata=account.bearer)
    assert (code, problem.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "validation_failed")
    assert len(problem.violations) == 1


def test_an_email_registers_once(auth, account):
    request = RegisterRequest(email=account.email.upper(), password=account.password)
    code, problem = refusal(auth.Register, request)
    assert (code, problem.reason) == (grpc.StatusCode.ALREADY_EXISTS, "email_already_registered")
    assert problem.violations == []


def test_too_many_failed_logins_are_told_when_to_come_back(auth, account):
    wrong = LoginRequest(email=account.email, password="a guess")
    reasons = [refusal(auth.Login, wrong)[1].reason for _ in range(3)]
    assert reasons == ["invalid_credentials"] * 3

    right = LoginRequest(email=account.email, password=account.password)
    code, problem = refusal(auth.Login, right)
    assert (code, problem.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many_attempts")
    assert 0 < problem.retry_after <= 900


def test_a_stale_etag_is_told_apart(users, account):
    stale = users.GetUser(GetUserRequest(id=account.id), metadata=account.bearer).user.etag
    request = UpdateUserRequest(
        user=User(id=account.id, name="Ada"), update_mask=FieldMask(paths=["name"]), etag=stale
    )
    users.UpdateUser(request, metadata=account.bearer, timeout=TIMEOUT)
    code, problem = refusal(users.UpdateUser, request, metadata=account.bearer)
    assert (code, problem.reason) == (grpc.StatusCode.ABORTED, "precondition_failed")


def test_who_may_do_what(users, account):
    own = GetUserRequest(id=account.id)
    code, problem = refusal(users.GetUser, own)
    assert (code, problem.reason) == (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated")
    code, problem = refusal(users.GetUser, own, metadata=[("authorization", "Bearer x.y.z")])
    assert (code, problem.reason) == (grpc.StatusCode.UNAUTHENTICATED, "invalid_token")
    nobody = str(uuid.uuid4())
    code, problem = refusal(users.GetUser, GetUserRequest(id=nobody), metadata=account.bearer)
    assert (code, problem.reason) == (grpc.StatusCode.NOT_FOUND, "user_not_found")
    code, problem = refusal(users.DeleteUser, DeleteUserRequest(id=nobody), metadata=account.bearer)
    assert (code, problem.reason) == (grpc.StatusCode.PERMISSION_DENIED, "forbidden")


def test_a_deleted_account_is_gone(users, account):
    users.DeleteUser(DeleteUserRequest(id=account.id), metadata=account.bearer, timeout=TIMEOUT)
    code, problem = refusal(users.GetUser, GetUserRequest(id=account.id), metadata=account.bearer)
    assert (code, problem.reason) == (grpc.StatusCode.UNAUTHENTICATED, "account_deleted")


def test_health_of_each_service(auth_channel, user_channel):
    assert is_serving(auth_channel, "")
    assert is_serving(auth_channel, "auth.v1.AccountService")
    assert is_serving(user_channel, "user.v1.UserService")
    with pytest.raises(grpc.RpcError) as caught:
        is_serving(user_channel, "auth.v1.AuthService")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_an_error_without_an_answer_has_no_reason():
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(grpc.RpcError) as caught:
        is_serving(channel, "")
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert Problem.of(caught.value) == Problem()
