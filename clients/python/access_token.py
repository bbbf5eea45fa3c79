"""Validates Latchkey's access tokens locally, as the user service does.

PyJWT reads the keys and checks the signature. The rest is stricter than what any JWT library does
by default, so it is written out here, in the order of crates/token-verifier/README.md. Copy this file into
your service; it needs PyJWT and cryptography.

    jwks = Jwks("http://localhost:3000/.well-known/jwks.json")
    claims = validate(token, jwks, issuer="http://localhost:3000", audience="latchkey")
"""

import base64
import json
import logging
import math
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Protocol

import jwt

MAX_TOKEN_BYTES = 8 * 1024
MAX_JWKS_BYTES = 256 * 1024
MAX_EMAIL_BYTES = 254
MAX_INTEGER = 2**53 - 1  # the same number in every JSON parser
MAX_TIME = 253_402_300_799  # the end of the year 9999, in seconds since 1970

# A key has one algorithm, and its type says which (RFC 8725, section 3.1).
ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
SUPPORTED_ALGORITHMS = {*ALGORITHMS.values(), "HS256"}
# RFC 9864 gives EdDSA with Ed25519 a name of its own.
OTHER_NAMES = {"Ed25519": "EdDSA"}


class InvalidToken(Exception):
    """The token is refused. `reason` is a name for logs; callers learn 401 and nothing else."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class KeysUnavailable(Exception):
    """No keys have arrived yet, so a good token cannot be told from a bad one: answer 503."""


@dataclass(frozen=True)
class Claims:
    """What a valid token says. Times are whole seconds since 1970-01-01T00:00:00Z."""

    sub: str
    email: str | None
    iat: int
    exp: int
    nbf: int | None
    iss: str | None
    aud: tuple[str, ...]
    jti: str | None
    gen: int  # the generation of the account's credentials; absent, it is 0
    sid: str | None  # the session that the token belongs to
    email_verified: bool | None


class Revocations(Protocol):
    """Says what is revoked: a `RevocationList` of revocations.py."""

    def revokes(self, sub: str, sid: str | None, gen: int) -> bool: ...


def validate(
    token: str,
    keys: Callable[[str | None], Sequence[jwt.PyJWK]],
    *,
    issuer: str | None,
    audience: str | None,
    now: float | None = None,
    exp_leeway: int = 0,
    clock_skew: int = 60,
    revocations: Revocations | None = None,
) -> Claims:
    """Returns the claims of a valid token, and raises InvalidToken for any other.

    `keys` gives the trusted keys, for a token that names this `kid`: a `Jwks`, or a function of
    yours. With an `issuer` or `audience` of None that claim is not looked at. A token that is "expired"
    is good but for that, and one that is "revoked" is good but for that.
    """
    if len(token.encode("utf-8", "surrogatepass")) > MAX_TOKEN_BYTES:
        raise InvalidToken("too_long")
    segments = token.split(".")
    if len(segments) != 3:
        raise InvalidToken("not_compact")

    header, payload, _ = (_decode(segment) for segment in segments)
    algorithm, kid = _read_header(_object(header))
    _check_signature(token, _candidates(keys(kid), algorithm, kid))

    claims = _read_claims(_object(payload))
    now = math.floor(time.time() if now is None else now)
    if max(claims.iat, claims.nbf or 0) > now + clock_skew:
        raise InvalidToken("not_yet_valid")
    if issuer is not None:
        if claims.iss is None:
            raise InvalidToken("missing_claim")
        if claims.iss != issuer:
            raise InvalidToken("wrong_issuer")
    if audience is not None:
        if not claims.aud:
            raise InvalidToken("missing_claim")
        if audience not in claims.aud:
            raise InvalidToken("wrong_audience")
    if claims.exp <= now - exp_leeway:
        raise InvalidToken("expired")
    if revocations is not None and revocations.revokes(claims.sub, claims.sid, claims.gen):
        raise InvalidToken("revoked")
    return claims


def _decode(segment: str) -> bytes:
    """Takes base64url in its one canonical form: no padding, other alphabet or left-over bits."""
    try:
        raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise InvalidToken("bad_base64") from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != segment:
        raise InvalidToken("bad_base64")
    return raw


def _object(text: bytes) -> dict[str, Any]:
    """Reads one JSON object. Python's parser takes more than JSON, and the last of two members."""

    def unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(members)) != len(members):
            raise InvalidToken("duplicate_member")
        return dict(members)

    def finite(number: str) -> float:
        if math.isinf(value := float(number)):
            raise ValueError("number out of range")
        return value

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=unique,
            parse_float=finite,
            parse_constant=refuse,
        )
    except (ValueError, RecursionError):
        raise InvalidToken("bad_json") from None
    if not isinstance(value, dict):
        raise InvalidToken("bad_json")
    return value


def _read_header(header: dict[str, Any]) -> tuple[str, str | None]:
    """Returns `alg` and `kid`. The header chooses a key; it never says how to check."""
    if header.keys() & {"jwk", "jku", "x5c", "x5u"}:
        raise InvalidToken("key_in_header")
    if "crit" in header:
        raise InvalidToken("critical_header")
    if header.keys() & {"b64", "enc", "zip"}:
        raise InvalidToken("unsupported_header")
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.lower() not in {"jwt", "at+jwt", "application/at+jwt"}:
        raise InvalidToken("wrong_type")
    algorithm = header.get("alg")
    if isinstance(algorithm, str):
        algorithm = OTHER_NAMES.get(algorithm, algorithm)
    if not isinstance(algorithm, str) or algorithm not in SUPPORTED_ALGORITHMS:
        raise InvalidToken("unsupported_algorithm")
    if "kid" in header and not isinstance(header["kid"], str):
        raise InvalidToken("bad_kid")
    return algorithm, header.get("kid")


def _candidates(keys: Sequence[jwt.PyJWK], algorithm: str, kid: str | None) -> Sequence[jwt.PyJWK]:
    named = [key for key in keys if kid is None or key.key_id == kid]
    if not named:
        raise InvalidToken("unknown_key")
    candidates = [key for key in named if key.algorithm_name == algorithm]
    if not candidates:
        raise InvalidToken("algorithm_mismatch")
    return candidates[:16]


def _check_signature(token: str, candidates: Sequence[jwt.PyJWK]) -> None:
    signed, _, signature = token.rpartition(".")
    # The key's algorithm checks, whatever the header calls it.
    if not any(
        key.Algorithm.verify(signed.encode(), key.key, _decode(signature)) for key in candidates
    ):
        raise InvalidToken("bad_signature")


def _read_claims(claims: dict[str, Any]) -> Claims:
    sub = _text(claims, "sub", required=True)
    email = _text(claims, "email")
    sid = _text(claims, "sid")
    if sid is not None and not _is_id(sid):
        raise InvalidToken("invalid_claim")
    if not _is_id(sub) or len((email or "").encode()) > MAX_EMAIL_BYTES:
        raise InvalidToken("invalid_claim")
    return Claims(
        sub=sub,
        email=email,
        iat=_time(claims, "iat", required=True),
        exp=_time(claims, "exp", required=True),
        nbf=_time(claims, "nbf"),
        iss=_text(claims, "iss"),
        aud=_audience(claims),
        jti=_text(claims, "jti"),
        gen=_generation(claims),
        sid=sid,
        email_verified=_flag(claims, "email_verified"),
    )


def _text(claims: dict[str, Any], name: str, required: bool = False) -> str | None:
    if name not in claims:
        return _absent(required)
    if not isinstance(claims[name], str):
        raise InvalidToken("invalid_claim")
    return claims[name]


def _time(claims: dict[str, Any], name: str, required: bool = False) -> int | None:
    if name not in claims:
        return _absent(required)
    value = claims[name]
    # In Python True is a number.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_TIME:
        raise InvalidToken("invalid_claim")
    return int(value)


def _generation(claims: dict[str, Any]) -> int:
    value = claims.get("gen", 0)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 <= value <= MAX_INTEGER
        or value != int(value)
    ):
        raise InvalidToken("invalid_claim")
    return int(value)


def _flag(claims: dict[str, Any], name: str) -> bool | None:
    if name in claims and not isinstance(claims[name], bool):
        raise InvalidToken("invalid_claim")
    return claims.get(name)


def _absent(required: bool) -> None:
    if required:
        raise InvalidToken("missing_claim")


def _audience(claims: dict[str, Any]) -> tuple[str, ...]:
    aud = claims.get("aud", [])
    names = [aud] if isinstance(aud, str) else aud
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidToken("invalid_claim")
    return tuple(names)


def _is_id(text: str) -> bool:
    """Whether this is a UUID in its one spelling, in lower case with hyphens, and not nil."""
    try:
        return str(uuid.UUID(text)) == text and uuid.UUID(text).int != 0
    except ValueError:
        return False


def usable_keys(jwks: dict[str, Any]) -> list[jwt.PyJWK]:
    """Reads the keys for signatures from a JWK set; leaves all others out (RFC 7517, section 5)."""
    keys = []
    for jwk in jwks["keys"]:
        try:
            algorithm = ALGORITHMS.get((jwk.get("kty"), jwk.get("crv")))
            if (
                algorithm is not None
                and OTHER_NAMES.get(jwk.get("alg"), jwk.get("alg", algorithm)) == algorithm
                and jwk.get("use", "sig") == "sig"
                and "verify" in jwk.get("key_ops", ["verify"])
                and "d" not in jwk
            ):
                keys.append(jwt.PyJWK(jwk, algorithm))
        except (AttributeError, TypeError, jwt.PyJWTError):
            continue
    return keys


class Jwks:
    """The keys at a URL: fetched when first needed, again when `max_age` has passed, and for an
    unknown `kid`, but never twice in `retry_after` seconds. Without an answer the known keys stay.
    Safe to share between threads.
    """

    def __init__(self, url: str, *, max_age: float = 300, retry_after: float = 10):
        self._url = url
        self._max_age = max_age
        self._retry_after = retry_after
        self._fetching = threading.Lock()
        self._keys: list[jwt.PyJWK] = []
        self._fetched = self._tried = -math.inf

    def __call__(self, kid: str | None) -> Sequence[jwt.PyJWK]:
        # Whoever can do without the answer does not wait for another's fetch.
        has_key = self._has(kid)
        if not (has_key and self._is_fresh()) and self._fetching.acquire(blocking=not has_key):
            try:
                # Another may have fetched meanwhile.
                is_due = not (self._has(kid) and self._is_fresh())
                if is_due and time.monotonic() - self._tried >= self._retry_after:
                    self._fetch()
            finally:
                self._fetching.release()
        if not self._keys:
            raise KeysUnavailable
        return self._keys

    def _has(self, kid: str | None) -> bool:
        return any(kid is None or key.key_id == kid for key in self._keys)

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._fetched < self._max_age

    def _fetch(self) -> None:
        self._tried = time.monotonic()
        try:
            with urllib.request.urlopen(self._url, timeout=5) as response:
                text = response.read(MAX_JWKS_BYTES + 1)
            if len(text) > MAX_JWKS_BYTES:
                raise ValueError("the key set is too large")
            self._keys = usable_keys(_object(text))
            self._fetched = self._tried
        except (OSError, HTTPException, ValueError, LookupError, TypeError, InvalidToken) as error:
            logging.getLogger(__name__).warning("cannot fetch the signing keys: %s", error)
