// How tokens are renewed, against a service that is a function.

import assert from "node:assert/strict";
import { after, test, type TestContext } from "node:test";

import {
  Latchkey,
  memoryStore,
  NotSignedInError,
  ProblemError,
  type Tokens,
  type TokenStore,
  UnexpectedAnswerError,
  UnreachableError,
} from "../src/index.js";

// Node.js does not wait for `AbortSignal.timeout`, which is all that some of these tests wait for.
const alive = setInterval(() => {}, 1_000);
after(() => clearInterval(alive));

interface Seen {
  method: string;
  path: string;
  token: string | null;
  body: Record<string, unknown>;
}

type Answer = Response | Promise<Response>;

function json(status: number, body: object, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers });
}

function problem(status: number, code: string, headers: Record<string, string> = {}): Response {
  return json(status, { type: `/errors#${code}`, title: code, status, detail: "a reason", code, request_id: "r1" }, headers);
}

/** The answer of a service whose current access token is `current`. */
function profileFor(seen: Seen, current: string): Response {
  if (seen.token !== `Bearer ${current}`) return problem(401, "token_expired");
  return json(200, { id: "1", name: "Ada", bio: "", created_at: "", updated_at: "" }, { etag: '"1"' });
}

const pair = (n: number): Tokens => ({ access_token: `a${n}`, refresh_token: `r${n}` });

function setUp(answer: (seen: Seen) => Answer, tokens: TokenStore = memoryStore()) {
  const requests: Seen[] = [];
  let signedOut = 0;
  const client = new Latchkey({
    authUrl: "http://auth.test/prefix",
    userUrl: "http://user.test/",
    tokens,
    timeout: 2_000,
    onSignedOut: () => signedOut++,
    fetch: async (input, init) => {
      const url = new URL(String(input));
      assert.equal(init?.credentials, "omit");
      assert.ok(!/[ar]\d|lkr_|Bearer/.test(url.href), `a token in ${url.href}`);
      const seen = {
        method: init?.method ?? "",
        path: url.pathname + url.search,
        token: new Headers(init?.headers).get("authorization"),
        body: init?.body ? (JSON.parse(String(init.body)) as Record<string, unknown>) : {},
      };
      requests.push(seen);
      init?.signal?.throwIfAborted();
      const ends = new Promise<never>((_, reject) => {
        init?.signal?.addEventListener("abort", () => reject(init.signal?.reason as Error));
      });
      return Promise.race([answer(seen), ends]);
    },
  });
  return { client, tokens, requests, signedOut: () => signedOut, paths: () => requests.map((one) => `${one.method} ${one.path}`) };
}

/** The Web Locks API, as far as it is used, for the length of a test. */
function withLocks(t: TestContext): void {
  const tails = new Map<string, Promise<unknown>>();
  const request = async (name: string, { signal }: { signal: AbortSignal }, work: () => Promise<unknown>) => {
    const before = tails.get(name) ?? Promise.resolve();
    const refused = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason as Error));
    });
    const run = Promise.race([before, refused]).then(work);
    tails.set(name, run.catch(() => {}));
    return run;
  };
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: { locks: { request } }, configurable: true });
  t.after(() => {
    if (before) Object.defineProperty(globalThis, "navigator", before);
    else Reflect.deleteProperty(globalThis, "navigator");
  });
}

/** A store as several tabs share it. */
function sharedStore(first: Tokens): TokenStore {
  let kept: Tokens | null = first;
  return { lock: "tabs", get: () => kept, set: (tokens) => void (kept = tokens) };
}

test("calls whose token has expired share one refresh, and are made once more", async () => {
  const { client, tokens, requests } = setUp(async (seen) => {
    if (seen.path !== "/prefix/auth/refresh") return profileFor(seen, "a2");
    assert.deepEqual(seen.body, { refresh_token: "r1" });
    await new Promise((done) => setTimeout(done, 20));
    return json(200, { ...pair(2), token_type: "Bearer", expires_in: 60 });
  });
  await tokens.set(pair(1));
  const answers = await Promise.all(Array.from({ length: 5 }, () => client.profile()));
  assert.deepEqual(answers.map(({ profile, etag }) => [profile.name, etag]), Array(5).fill(["Ada", '"1"']));
  assert.equal(requests.filter(({ path }) => path.endsWith("/refresh")).length, 1);
  assert.equal(requests.length, 11);
  assert.deepEqual(await tokens.get(), pair(2));
});

test("a call that was on its way during a refresh takes the token that came of it", async () => {
  let release = (_: Response) => {};
  const late = new Promise<Response>((resolve) => (release = resolve));
  let first = true;
  const { client, tokens, requests } = setUp((seen) => {
    if (seen.path.endsWith("/refresh")) return json(200, pair(2));
    if (seen.path === "/users/late" && first) {
      first = false;
      return late;
    }
    return profileFor(seen, "a2");
  });
  await tokens.set(pair(1));
  const waiting = client.profile("late");
  await client.profile();
  release(problem(401, "token_expired"));
  await waiting;
  assert.equal(requests.filter(({ path }) => path.endsWith("/refresh")).length, 1);
});

test("a call is made twice at most", async () => {
  const { client, tokens, requests } = setUp((seen) =>
    seen.path.endsWith("/refresh") ? json(200, pair(2)) : problem(401, "token_expired"),
  );
  await tokens.set(pair(1));
  await assert.rejects(client.profile(), (error) => error instanceof ProblemError && error.code === "token_expired");
  assert.equal(requests.length, 3);
});

test("tabs that share a store refresh once", async (t) => {
  withLocks(t);
  const tokens = sharedStore(pair(1));
  const answer = async (seen: Seen) => {
    if (!seen.path.endsWith("/refresh")) return profileFor(seen, "a2");
    await new Promise((done) => setTimeout(done, 20));
    return json(200, pair(2));
  };
  const tabs = Array.from({ length: 4 }, () => setUp(answer, tokens));
  await Promise.all(tabs.map(({ client }) => client.profile()));
  const refreshes = tabs.flatMap(({ requests }) => requests).filter(({ path }) => path.endsWith("/refresh"));
  assert.equal(refreshes.length, 1);
});

test("a tab that holds the lock for ever stops nobody", async (t) => {
  withLocks(t);
  const tokens = sharedStore(pair(1));
  const never = new Promise<Response>(() => {});
  void navigator.locks.request("tabs", { signal: AbortSignal.timeout(60_000) }, () => never);
  const { client } = setUp((seen) => (seen.path.endsWith("/refresh") ? json(200, pair(2)) : profileFor(seen, "a2")), tokens);
  assert.equal((await client.profile()).profile.name, "Ada");
});

test("an ended session signs out; an answer that is lost does not", async () => {
  let refusal: () => Answer = () => problem(503, "database_unavailable", { "retry-after": "2" });
  const { client, tokens, signedOut } = setUp((seen) =>
    seen.path.endsWith("/refresh") ? refusal() : problem(401, "token_expired"),
  );
  await tokens.set(pair(1));
  await assert.rejects(client.profile(), (error) => {
    return error instanceof ProblemError && error.code === "database_unavailable" && error.retryAfter === 2;
  });
  refusal = () => Promise.reject(new TypeError("Failed to fetch"));
  await assert.rejects(client.profile(), UnreachableError);
  assert.deepEqual([await tokens.get(), signedOut()], [pair(1), 0]);
  refusal = () => problem(401, "invalid_refresh_token");
  await assert.rejects(client.profile(), (error) => {
    return error instanceof NotSignedInError && (error.cause as ProblemError).code === "invalid_refresh_token";
  });
  assert.deepEqual([await tokens.get(), signedOut()], [null, 1]);
  await assert.rejects(client.profile(), NotSignedInError);
});

test("without a refresh token the end of the access token signs out", async () => {
  const { client, tokens, signedOut, paths } = setUp(() => problem(401, "token_expired"));
  await tokens.set({ access_token: "a1" });
  await assert.rejects(client.profile(), NotSignedInError);
  assert.deepEqual([await tokens.get(), signedOut(), paths()], [null, 1, ["GET /users/me"]]);
});

test("a deleted account signs out without a refresh", async () => {
  const { client, tokens, paths } = setUp(() => problem(401, "account_deleted"));
  await tokens.set(pair(1));
  await assert.rejects(client.profile(), NotSignedInError);
  assert.deepEqual([await tokens.get(), paths()], [null, ["GET /users/me"]]);
});

test("a logout during a refresh is not undone, and neither is a login", async () => {
  for (const then of [null, pair(7)]) {
    let release = (_: Response) => {};
    const { client, tokens } = setUp((seen) => {
      if (seen.path.endsWith("/refresh")) return new Promise((resolve) => (release = resolve));
      return profileFor(seen, "a7");
    });
    await tokens.set(pair(1));
    const result = client.profile().then(
      () => "done",
      (error: unknown) => (error as Error).name,
    );
    await new Promise((done) => setTimeout(done, 20));
    await tokens.set(then);
    release(json(200, pair(2)));
    assert.equal(await result, then ? "done" : "NotSignedInError");
    assert.deepEqual(await tokens.get(), then);
  }
});

test("a logout forgets the tokens even if the service is away", async () => {
  const { client, tokens, requests } = setUp(() => Promise.reject(new TypeError("Failed to fetch")));
  await tokens.set(pair(1));
  await assert.rejects(client.logout(), UnreachableError);
  assert.equal(await tokens.get(), null);
  assert.deepEqual(requests[0]?.body, { refresh_token: "r1" });
  await client.logout();
  assert.equal(requests.length, 1);
});

test("a signal ends one call, and not the refresh that others wait for", async () => {
  let release = (_: Response) => {};
  const { client, tokens, requests } = setUp((seen) => {
    if (seen.path.endsWith("/refresh")) return new Promise((resolve) => (release = resolve));
    return profileFor(seen, "a2");
  });
  await tokens.set(pair(1));
  const gone = new AbortController();
  const patient = client.profile();
  const impatient = client.profile("me", { signal: gone.signal });
  await new Promise((done) => setTimeout(done, 20));
  gone.abort();
  await assert.rejects(impatient, { name: "AbortError" });
  release(json(200, pair(2)));
  assert.equal((await patient).profile.name, "Ada");
  assert.equal(requests.filter(({ path }) => path.endsWith("/refresh")).length, 1);
  await assert.rejects(client.profile("me", { signal: gone.signal }), { name: "AbortError" });
});

test("a service that does not answer costs the time-out and no more", async () => {
  const { client } = setUp(() => new Promise(() => {}));
  const began = performance.now();
  await assert.rejects(client.register({ email: "a@b.com", password: "x" }), { name: "TimeoutError" });
  assert.ok(performance.now() - began < 4_000);
});

test("a change of the password keeps the refresh token", async () => {
  const { client, tokens } = setUp(() => json(200, { access_token: "a2", token_type: "Bearer", expires_in: 60 }));
  await tokens.set(pair(1));
  await client.changePassword({ current_password: "old", new_password: "new" });
  assert.deepEqual(await tokens.get(), { access_token: "a2", refresh_token: "r1" });
});

test("what is no answer of the service says so", async () => {
  for (const page of [new Response("<h1>Bad gateway</h1>", { status: 502 }), json(502, { error: "upstream" })]) {
    const { client } = setUp(() => page);
    await assert.rejects(client.forgotPassword("a@b.com"), (error) => {
      return error instanceof UnexpectedAnswerError && error.status === 502;
    });
  }
  const { client } = setUp(() => new Response("hello"));
  await assert.rejects(client.register({ email: "a@b.com", password: "x" }), UnexpectedAnswerError);
});

test("only HTTP URLs are taken", () => {
  for (const authUrl of ["ftp://a.test", "javascript:alert(1)", "a.test"]) {
    assert.throws(() => new Latchkey({ authUrl, userUrl: "http://user.test" }), TypeError);
  }
});
