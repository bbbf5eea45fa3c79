"""The running services, which the environment names (clients/README.md), and new accounts."""

import os
import secrets
from dataclasses import dataclass

import grpc
import pytest
from latchkey_client.auth.v1.auth_service_pb2 import LoginRequest, RegisterRequest
from latchkey_client.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from latchkey_client.user.v1.user_service_pb2_grpc import UserServiceStub

from example import TIMEOUT


@dataclass
class Account:
    id: str
    email: str
    password: str
    token: str

    @property
    def bearer(self):
        return [("authorization", f"Bearer {self.token}")]


@pytest.fixture(scope="session")
def auth_channel():
    with grpc.insecure_channel(os.environ["AUTH_GRPC"]) as channel:
        yield channel


@pytest.fixture(scope="session")
def user_channel():
    with grpc.insecure_channel(os.environ["USER_GRPC"]) as channel:
        yield channel


@pytest.fixture
def auth(auth_channel):
    return AuthServiceStub(auth_channel)


@pytest.fixture
def users(user_channel):
    return UserServiceStub(user_channel)


@pytest.fixture
def account(auth):
    email = f"python-{secrets.token_hex(8)}@example.com"
    password = secrets.token_urlsafe(16)
    registered = auth.Register(RegisterRequest(email=email, password=password), timeout=TIMEOUT)
    login = auth.Login(LoginRequest(email=email, password=password), timeout=TIMEOUT)
    return Account(registered.id, email, password, login.access_token)
