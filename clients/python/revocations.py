"""Knows which of Latchkey's access tokens were revoked before their end.

Needs the standard library only. Copy this file into your service beside access_token.py.

    revocations = RevocationList()
    RevocationFeed("http://localhost:3000/.well-known/revocations", revocations).start()
    claims = validate(token, jwks, issuer=..., audience=..., revocations=revocations)
"""

import base64
import hashlib
import json
import logging
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, NamedTuple

MAX_REVOCATIONS = 1_000_000
MAX_PAGE_BYTES = 4 * 1024 * 1024
MAX_PAGES = 1000  # more than a full list has, at one time
MAX_CURSOR_BYTES = 1024
POLL = 2.0  # seconds
MAX_BACK_OFF = 3.0  # seconds

# What a session's entry revokes: tokens of every generation.
EVERY_GENERATION = 2**64


class NotAPage(ValueError):
    """The answer is not a page of revocations."""


class ListFull(Exception):
    """The list would have more than MAX_REVOCATIONS entries."""


class Entry(NamedTuple):
    """Ends tokens of a generation below this one, until its end."""

    is_session: bool
    digest: bytes
    below: int
    until: int


class Page(NamedTuple):
    """One answer of GET /.well-known/revocations."""

    reset: bool
    more: bool
    cursor: str
    entries: list[Entry]


def read_page(text: bytes | str) -> Page:
    """Reads the body of an answer. Entries of a kind that is not known here are passed over."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise NotAPage from None
    if not isinstance(body, dict):
        raise NotAPage
    reset, more = body.get("reset"), body.get("more")
    cursor, entries = body.get("cursor"), body.get("entries")
    if (
        not isinstance(reset, bool)
        or not isinstance(more, bool)
        or not isinstance(cursor, str)
        or len(cursor.encode("utf-8", "surrogatepass")) > MAX_CURSOR_BYTES
        or not isinstance(entries, list)
    ):
        raise NotAPage
    known = (_read_entry(entry) for entry in entries)
    return Page(reset, more, cursor, [entry for entry in known if entry is not None])


def _read_entry(entry: Any) -> Entry | None:
    if not isinstance(entry, dict):
        raise NotAPage
    session, account = entry.get("session"), entry.get("account")
    if session is None and account is None:
        return None
    generation, until = entry.get("generation"), entry.get("until")
    if not _is_integer(until) or (session is not None and account is not None):
        raise NotAPage
    if session is not None:
        if generation is not None:
            raise NotAPage
        return Entry(True, _digest(session), EVERY_GENERATION, until)
    if not _is_integer(generation) or generation < 0:
        raise NotAPage
    return Entry(False, _digest(account), generation, until)


def _is_integer(value: Any) -> bool:
    # In Python True is a number.
    return isinstance(value, int) and not isinstance(value, bool)


def _digest(text: Any) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(text + "=")
    except (TypeError, ValueError):
        raise NotAPage from None
    if len(raw) != 32 or base64.urlsafe_b64encode(raw).decode().rstrip("=") != text:
        raise NotAPage
    return raw


# By kind and digest.
Known = dict[tuple[bool, bytes], Entry]


class RevocationList:
    """What is known to be revoked. A `RevocationFeed` fills it; whoever gets the pages in another way
    hands them to `apply`. Safe to share between threads: a change makes a new dictionary.

    `leeway` is how many seconds an entry counts beyond its end: the `exp_leeway` of `validate`.
    """

    def __init__(self, *, leeway: int = 0, clock: Callable[[], float] = time.time):
        self.cursor = ""
        self._leeway = leeway
        self._clock = clock
        self._known: Known = {}
        self._incoming: Known | None = None
        self._completed: float | None = None

    def apply(self, page: Page) -> None:
        """Takes the next page. The pages from one with `reset` to one without `more` replace what is
        known, all at once; every other page adds to it.
        """
        incoming, self._incoming = self._incoming, None
        replaces = page.reset or incoming is not None
        before = incoming if incoming is not None else {} if page.reset else self._known
        passed = self._clock() - self._leeway
        known = {key: entry for key, entry in before.items() if entry.until > passed}
        for entry in page.entries:
            key = (entry.is_session, entry.digest)
            # Two entries for one account say what either says.
            if (other := known.get(key)) is not None:
                below, until = max(entry.below, other.below), max(entry.until, other.until)
                entry = entry._replace(below=below, until=until)
            known[key] = entry
        if len(known) > MAX_REVOCATIONS:
            if replaces:
                self.cursor = ""
            raise ListFull
        self.cursor = page.cursor
        if replaces and page.more:
            self._incoming = known
        else:
            self._known = known
        if not page.more:
            self.confirm()

    def confirm(self) -> None:
        """Notes that nothing has changed."""
        self._completed = time.monotonic()

    @property
    def age(self) -> float | None:
        """Seconds since the list was last known to be complete; None if it never was."""
        return None if self._completed is None else time.monotonic() - self._completed

    def revokes(self, sub: str, sid: str | None, gen: int) -> bool:
        """Whether the session is listed, or the account with a generation above this one."""
        known, now = self._known, self._clock() - self._leeway
        keys = [(False, sub)] if sid is None else [(True, sid), (False, sub)]
        for is_session, name in keys:
            entry = known.get((is_session, hashlib.sha256(name.encode()).digest()))
            if entry is not None and gen < entry.below and entry.until > now:
                return True
        return False


class RevocationFeed:
    """Keeps a list current from a URL, in a thread of its own that ends with the process. While the
    auth service is away, what is known goes on counting.
    """

    def __init__(self, url: str, revocations: RevocationList):
        self._url = url
        self._list = revocations
        self._tag: tuple[str, str] | None = None  # a cursor, and the entity tag of its page
        self._ended = threading.Event()

    def start(self) -> "RevocationFeed":
        threading.Thread(target=self._follow, name="revocations", daemon=True).start()
        return self

    def stop(self) -> None:
        self._ended.set()

    def _follow(self) -> None:
        log = logging.getLogger(__name__)
        failures = 0
        while not self._ended.is_set():
            try:
                self._catch_up()
                failures, pause = 0, POLL
            except (OSError, HTTPException, ValueError, ListFull) as error:
                if failures == 0:
                    log.warning("cannot read the list of revocations: %r", error)
                pause = min(0.25 * 2 ** min(failures, 10), MAX_BACK_OFF)
                failures += 1
            # Without jitter, replicas that started together would ask together.
            self._ended.wait(pause * random.uniform(0.9, 1.0))

    def _catch_up(self) -> None:
        for _ in range(MAX_PAGES):
            cursor = self._list.cursor
            page = self._get(cursor)
            if page is None:
                self._list.confirm()
                return
            if page.more and page.cursor == cursor:
                break
            try:
                self._list.apply(page)
            except ListFull:
                self._tag = None
                raise
            if not page.more:
                return
        raise NotAPage("the pages have no end")

    def _get(self, cursor: str) -> Page | None:
        """Returns the page after a cursor; None where nothing has changed."""
        url = self._url
        if cursor:
            url += ("&" if "?" in url else "?") + urllib.parse.urlencode({"after": cursor})
        tag, self._tag = self._tag, None
        headers = {"If-None-Match": tag[1]} if tag is not None and tag[0] == cursor else {}
        request = urllib.request.Request(url, headers=headers)
        try:
            with _OPENER.open(request, timeout=2) as response:
                text = response.read(MAX_PAGE_BYTES + 1)
                new_tag = response.headers.get("ETag")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 304 and headers:
                self._tag = tag
                return None
            raise
        if len(text) > MAX_PAGE_BYTES:
            raise NotAPage("the page is too large")
        page = read_page(text)
        # A page that leads on, or that begins again, is read whole the next time.
        if new_tag is not None and not page.more and not page.reset:
            self._tag = (cursor, new_tag)
        return page


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)
