"""The list of revoked tokens: the shared vectors, and a small feed."""

import http.server
import json
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from access_token import InvalidToken, usable_keys, validate
from revocations import NotAPage, RevocationFeed, RevocationList, read_page

TOKENS = Path(os.environ["VECTORS"])
GIVEN = json.loads(TOKENS.read_text(encoding="utf-8"))
VECTORS = json.loads(TOKENS.with_name("revocations.json").read_text(encoding="utf-8"))
KEYS = usable_keys(GIVEN["jwks"])


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_case(case):
    clock = [GIVEN["now"]]
    revocations = RevocationList(clock=lambda: clock[0])
    for page in case["pages"]:
        revocations.apply(read_page(json.dumps(page)))
    assert revocations.cursor == case["cursor"]
    for check in case["checks"]:
        clock[0] = check["now"]
        try:
            validate(
                VECTORS["tokens"][check["token"]],
                lambda kid: KEYS,
                issuer=GIVEN["rules"]["iss"],
                audience=GIVEN["rules"]["aud"],
                now=check["now"],
                revocations=revocations,
            )
            verdict = "valid"
        except InvalidToken as refused:
            verdict = refused.reason
        assert verdict == check["verdict"], check


def test_there_are_cases():
    assert len(VECTORS["cases"]) >= 10


@pytest.mark.parametrize("text", VECTORS["malformed"])
def test_nothing_but_a_page_is_read_as_one(text):
    with pytest.raises(NotAPage):
        read_page(text)


@pytest.mark.parametrize("text", VECTORS["passed_over"])
def test_unknown_kinds_are_passed_over(text):
    assert read_page(text).entries == []


class Issuer:
    """A feed whose answer a test can change; None is a failure."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []

    @contextmanager
    def serving(self):
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                tag = self.headers.get("If-None-Match")
                issuer.requests.append((self.path, tag))
                body = json.dumps(issuer.answer).encode()
                own = f'"{len(body)}"'
                status = 500 if issuer.answer is None else 304 if tag == own else 200
                self.send_response(status)
                self.send_header("ETag", own)
                self.end_headers()
                if status == 200:
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/revocations"
            finally:
                server.shutdown()
                thread.join()


def until(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_list_is_followed_and_outlives_its_source():
    sid = "01976f3a-8d2c-7b4e-9f10-00000000000a"
    entry = {"session": VECTORS["ids"][sid], "until": int(time.time()) + 3600}
    issuer = Issuer({"reset": True, "more": False, "cursor": "a b", "entries": []})
    revocations = RevocationList()
    with issuer.serving() as url:
        feed = RevocationFeed(url, revocations).start()
        try:
            until(lambda: revocations.age is not None)
            assert not revocations.revokes("x", sid, 0)
            issuer.answer = {"reset": False, "more": False, "cursor": "a b", "entries": [entry]}
            until(lambda: revocations.revokes("x", sid, 0))
            until(lambda: len(issuer.requests) == 3)
            paths, tags = zip(*issuer.requests)
            assert paths == ("/revocations", *["/revocations?after=a+b"] * 2)
            assert tags[:2] == (None, None) and tags[2] is not None
            issuer.answer = None
            until(lambda: len(issuer.requests) == 6, 10)
            assert revocations.revokes("x", sid, 0) and revocations.age > 2
        finally:
            feed.stop()
