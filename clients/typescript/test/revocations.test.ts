import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { createLocalJWKSet, type JSONWebKeySet } from "jose";

import { followRevocations, NotAPage, readPage, RevocationList } from "../src/revocations.js";
import { InvalidToken, verify } from "../src/verify.js";
import { vectorsFile } from "./settings.js";

interface Vectors {
  ids: Record<string, string>;
  tokens: Record<string, string>;
  cases: {
    name: string;
    pages: unknown[];
    cursor: string;
    checks: { token: string; now: number; verdict: string }[];
  }[];
  malformed: string[];
  passed_over: string[];
}

const given = JSON.parse(readFileSync(vectorsFile(), "utf8")) as {
  now: number;
  rules: { iss: string; aud: string };
  jwks: JSONWebKeySet;
};
const vectors = JSON.parse(readFileSync(join(dirname(vectorsFile()), "revocations.json"), "utf8")) as Vectors;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test("every list means what the vectors state", async () => {
  assert.ok(vectors.cases.length >= 10);
  const keys = createLocalJWKSet(given.jwks);
  for (const { name, pages, cursor, checks } of vectors.cases) {
    let now = given.now;
    const list = new RevocationList(0, () => now);
    for (const page of pages) list.apply(readPage(bytes(JSON.stringify(page))));
    assert.equal(list.cursor, cursor, name);
    const rules = { issuer: given.rules.iss, audience: given.rules.aud, revocations: list };
    for (const check of checks) {
      now = check.now;
      const token = vectors.tokens[check.token] ?? assert.fail(check.token);
      const verdict = await verify(token, keys, rules, now).then(
        () => "valid",
        (error: unknown) => (error instanceof InvalidToken ? error.reason : String(error)),
      );
      assert.equal(verdict, check.verdict, `${name}: ${check.token} at ${now}`);
    }
  }
});

test("nothing but a page is read as one", () => {
  for (const text of vectors.malformed) assert.throws(() => readPage(bytes(text)), NotAPage, text);
  for (const text of vectors.passed_over) assert.deepEqual(readPage(bytes(text)).entries, [], text);
});

test("a list is followed and outlives its source", async (t) => {
  const sid = "01976f3a-8d2c-7b4e-9f10-00000000000a";
  const entry = { session: vectors.ids[sid], until: Math.floor(Date.now() / 1000) + 3600 };
  let answer: unknown = { reset: true, more: false, cursor: "a b", entries: [] };
  const requests: string[] = [];
  const source = createServer((request, response) => {
    requests.push(`${request.url} ${request.headers["if-none-match"] !== undefined}`);
    const body = JSON.stringify(answer) ?? "";
    const tag = `"${body.length}"`;
    if (answer === undefined) response.writeHead(500).end();
    else if (request.headers["if-none-match"] === tag) response.writeHead(304).end();
    else response.writeHead(200, { etag: tag }).end(body);
  }).listen(0, "127.0.0.1");
  t.after(() => source.close());
  await once(source, "listening");
  const stop = new AbortController();
  t.after(() => stop.abort());
  const until = async (condition: () => boolean): Promise<void> => {
    const deadline = performance.now() + 10_000;
    while (!condition()) {
      assert.ok(performance.now() < deadline);
      await sleep(20);
    }
  };

  const list = new RevocationList();
  followRevocations(new URL(`http://127.0.0.1:${(source.address() as AddressInfo).port}/r`), list, stop.signal);
  await until(() => list.age !== undefined);
  const token = { sub: "x", sid, gen: 0 };
  assert.ok(!list.revokes(token));
  answer = { reset: false, more: false, cursor: "a b", entries: [entry] };
  const began = performance.now();
  await until(() => list.revokes(token));
  assert.ok(performance.now() - began < 5_000);
  await until(() => requests.length === 3);
  assert.deepEqual(requests, ["/r false", "/r?after=a+b false", "/r?after=a+b true"]);
  answer = undefined;
  await until(() => requests.length === 5);
  assert.ok(list.revokes(token));
});
