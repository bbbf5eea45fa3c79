"""The validation of access tokens: the shared vectors, and tokens of the running service."""

import http.server
import json
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from access_token import InvalidToken, Jwks, KeysUnavailable, usable_keys, validate

with open(os.environ["VECTORS"], encoding="utf-8") as file:
    VECTORS = json.load(file)
KEYS = usable_keys(VECTORS["jwks"])
PARTIES = {"issuer": "http://localhost:3000", "audience": "latchkey"}
JWKS_URL = f"{os.environ['AUTH_HTTP']}/.well-known/jwks.json"


@pytest.mark.parametrize("vector", VECTORS["tokens"], ids=lambda vector: vector["name"])
def test_vector(vector):
    rules = VECTORS["rules"]

    def verdict():
        return validate(
            vector["token"],
            lambda kid: KEYS,
            issuer=rules["iss"],
            audience=rules["aud"],
            now=VECTORS["now"],
            exp_leeway=rules["exp_leeway"],
            clock_skew=rules["clock_skew"],
        )

    if vector["valid"]:
        claims = {name: value for name, value in asdict(verdict()).items() if value is not None}
        assert claims == {**vector["claims"], "aud": tuple(vector["claims"]["aud"])}
    else:
        with pytest.raises(InvalidToken) as refused:
            verdict()
        assert refused.value.reason == vector["reason"]


def test_there_are_vectors_of_both_kinds():
    valid = [vector["valid"] for vector in VECTORS["tokens"]]
    assert valid.count(True) >= 20 and valid.count(False) >= 100
    assert len(KEYS) == 6


def test_a_token_of_the_running_service_is_valid(account):
    claims = validate(account.token, Jwks(JWKS_URL), **PARTIES)
    assert (claims.sub, claims.email) == (account.id, account.email)
    assert claims.iat <= time.time() + 60 < claims.exp
    assert uuid.UUID(claims.jti)
    assert jwt.get_unverified_header(account.token)["alg"] == "RS256"


def test_a_token_of_the_running_service_is_bound_to_its_rules(account):
    jwks = Jwks(JWKS_URL)
    header, claims, signature = account.token.split(".")
    changed = "A" if signature[9] != "A" else "B"
    forged = f"{header}.{claims}.{signature[:9]}{changed}{signature[10:]}"
    end = validate(account.token, jwks, **PARTIES).exp
    for token, rules, reason in [
        (forged, PARTIES, "bad_signature"),
        (account.token, {**PARTIES, "issuer": "http://localhost:3001"}, "wrong_issuer"),
        (account.token, {**PARTIES, "audience": "other"}, "wrong_audience"),
        (account.token, {**PARTIES, "now": end}, "expired"),
        (account.token, {**PARTIES, "now": end - 3600 - 61}, "not_yet_valid"),
    ]:
        with pytest.raises(InvalidToken) as refused:
            validate(token, jwks, **rules)
        assert refused.value.reason == reason


class Issuer:
    """A key, its tokens, and its JWKS behind HTTP."""

    def __init__(self, kid="one"):
        self.private = Ed25519PrivateKey.generate()
        self.kid = kid
        self.requests = 0

    def token(self, kid=None, **claims):
        now = int(time.time())
        claims = {"sub": str(uuid.uuid4()), "iat": now, "exp": now + 60, **claims}
        return jwt.encode(claims, self.private, "EdDSA", headers={"kid": kid or self.kid})

    def jwks(self):
        jwk = jwt.algorithms.OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {"keys": [{**jwk, "kid": self.kid}]}

    @contextmanager
    def serving(self):
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.requests += 1
                body = json.dumps(issuer.jwks()).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/jwks.json"
            finally:
                server.shutdown()
                thread.join()


ANY = {"issuer": None, "audience": None}


def test_the_clock_and_the_parties_are_settings():
    issuer = Issuer()
    keys = usable_keys(issuer.jwks())
    now = int(time.time())
    assert validate(issuer.token(), lambda kid: keys, **ANY).aud == ()
    late = issuer.token(exp=now - 5)
    assert validate(late, lambda kid: keys, **ANY, exp_leeway=30).exp == now - 5
    early = issuer.token(iat=now + 80)
    assert validate(early, lambda kid: keys, **ANY, clock_skew=100).iat == now + 80
    for token in [late, early, issuer.token(exp=now)]:
        with pytest.raises(InvalidToken):
            validate(token, lambda kid: keys, **ANY)


def test_keys_are_fetched_once_and_kept_when_their_source_is_away():
    issuer = Issuer()
    with issuer.serving() as url:
        jwks = Jwks(url, max_age=0, retry_after=0)
        validate(issuer.token(), jwks, **ANY)
        calm = Jwks(url)
        for _ in range(5):
            validate(issuer.token(), calm, **ANY)
        assert issuer.requests == 2
    for _ in range(2):
        validate(issuer.token(), jwks, **ANY)


def test_an_unknown_kid_causes_one_fetch_however_many_come():
    issuer = Issuer()
    with issuer.serving() as url:
        jwks = Jwks(url, retry_after=0)
        validate(issuer.token(), jwks, **ANY)
        issuer.kid = "two"
        validate(issuer.token(), jwks, **ANY)
        assert issuer.requests == 2

        jwks = Jwks(url)
        tokens = [issuer.token(kid=f"made up {number}") for number in range(20)]

        def reason(token):
            with pytest.raises(InvalidToken) as refused:
                validate(token, jwks, **ANY)
            return refused.value.reason

        with ThreadPoolExecutor(len(tokens)) as pool:
            assert set(pool.map(reason, tokens)) == {"unknown_key"}
        assert issuer.requests == 3


def test_without_any_keys_a_token_is_neither_good_nor_bad():
    with pytest.raises(KeysUnavailable):
        validate(Issuer().token(), Jwks("http://127.0.0.1:1/jwks.json"), **ANY)


def test_a_key_that_cannot_be_read_does_not_harm_the_others():
    good = Issuer().jwks()["keys"]
    bad = [
        None,
        {},
        {"kty": ["RSA"]},
        {"kty": "RSA", "n": 1, "e": "AQAB"},
        {"kty": "EC", "crv": "P-256"},
    ]
    assert len(usable_keys({"keys": bad + good})) == 1
