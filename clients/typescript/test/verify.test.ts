import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { createLocalJWKSet, decodeProtectedHeader, type JSONWebKeySet, type JWK } from "jose";

import { authService } from "../src/client.js";
import { jsonObject } from "../src/json.js";
import { remoteKeys } from "../src/jwks.js";
import { type Claims, InvalidToken, verify } from "../src/verify.js";
import { audience, authGrpc, issuer, jwksUrl, vectorsFile } from "./settings.js";

interface Vectors {
  now: number;
  rules: { iss: string; aud: string; exp_leeway: number; clock_skew: number };
  jwks: JSONWebKeySet;
  tokens: { name: string; token: string; valid: boolean; claims?: Claims; reason?: string }[];
}

const { now, rules: given, jwks, tokens } = JSON.parse(readFileSync(vectorsFile(), "utf8")) as Vectors;
const rules = {
  issuer: given.iss,
  audience: given.aud,
  expLeeway: given.exp_leeway,
  clockSkew: given.clock_skew,
};

function vector(name: string): string {
  return tokens.find((vector) => vector.name === name)?.token ?? assert.fail(`no vector "${name}"`);
}

/** The claims of a token, or why it is refused. */
async function verdict(...check: Parameters<typeof verify>): Promise<Claims | string> {
  try {
    return await verify(...check);
  } catch (error) {
    if (error instanceof InvalidToken) return error.reason;
    throw error;
  }
}

/** jose does not say whether a key is unknown or for another algorithm, and HS256 is for no key of a JWKS. */
function expectedReason(token: string, reason = ""): string {
  if (reason !== "unknown_key" && reason !== "algorithm_mismatch") return reason;
  return decodeProtectedHeader(token).alg === "HS256" ? "unsupported_algorithm" : "unknown_key";
}

test("every vector comes out as it must", async () => {
  assert.ok(tokens.length >= 100 && tokens.some(({ valid }) => valid) && tokens.some(({ valid }) => !valid));
  const keys = createLocalJWKSet(jwks);
  for (const { name, token, valid, claims, reason } of tokens) {
    const actual = await verdict(token, keys, rules, now);
    assert.deepEqual(actual, valid ? claims : expectedReason(token, reason), name);
  }
});

test("keys for something else are left out", async () => {
  const token = vector("good: RS256");
  const { kid } = decodeProtectedHeader(token);
  const key = jwks.keys.find((key) => key.kid === kid) ?? assert.fail("the key is not there");
  const keysWith = (change: Partial<JWK>) => createLocalJWKSet({ keys: [{ ...key, ...change }] });
  assert.equal(typeof (await verdict(token, keysWith({}), rules, now)), "object");
  for (const change of [{ use: "enc" }, { key_ops: ["sign"] }, { alg: "PS256" }, { kid: "another" }]) {
    assert.equal(await verdict(token, keysWith(change), rules, now), "unknown_key", JSON.stringify(change));
  }
});

test("JSON is read in one way only", () => {
  const read = (text: string): unknown => jsonObject(new TextEncoder().encode(text));
  assert.deepEqual(read(' {"a":[{"b":-1.5e3},{"b":"{,\\"b\\":"}],"__proto__":{},"c":[]} '), {
    a: [{ b: -1500 }, { b: '{,"b":' }],
    ["__proto__"]: {},
    c: [],
  });
  for (const text of ['{"a":1,"\\u0061":2}', '[{"a":[{"b":{},"b":{}}]}]'.slice(1, -1), '{"":1,"":1}']) {
    assert.throws(() => read(text), { reason: "duplicate_member" }, text);
  }
  const deep = (depth: number): string => `{"a":${"[".repeat(depth - 1)}${"]".repeat(depth - 1)}}`;
  assert.ok(read(deep(127)));
  for (const text of ["", "1", "[]", "null", "{}{}", "\ufeff{}", '{"a":1e999}', '{"a":"\\ud800"}', deep(128)]) {
    assert.throws(() => read(text), { reason: "bad_json" }, text);
  }
});

test("a real token is valid, for its issuer, its audience and its time", async () => {
  const { auth } = authService(authGrpc());
  const email = `ada-${randomUUID()}@example.com`;
  const password = randomUUID();
  const { id } = await auth.register({ email, password });
  const { accessToken, expiresIn } = await auth.login({ email, password });

  const keys = remoteKeys(jwksUrl());
  const claims = await verify(accessToken, keys, { issuer, audience });
  assert.deepEqual([claims.sub, claims.email], [id, email]);
  assert.equal(claims.exp - claims.iat, Number(expiresIn));

  assert.equal(await verdict(accessToken, keys, { issuer: `${issuer}/` }), "wrong_issuer");
  assert.equal(await verdict(accessToken, keys, { audience: "another" }), "wrong_audience");
  assert.equal(await verdict(accessToken, keys, {}, claims.exp), "expired");
  assert.equal(await verdict(accessToken, keys, {}, claims.iat - 61), "not_yet_valid");
  const [header, , signature] = accessToken.split(".");
  const forged = Buffer.from(JSON.stringify({ ...claims, sub: randomUUID() })).toString("base64url");
  assert.equal(await verdict(`${header}.${forged}.${signature}`, keys), "bad_signature");
});

test("strangers cause few fetches, and known keys outlive their source", async (t) => {
  let fetches = 0;
  const source = createServer((_, response) => {
    fetches++;
    response.setHeader("content-type", "application/json").end(JSON.stringify(jwks));
  }).listen(0, "127.0.0.1");
  t.after(() => source.close());
  await once(source, "listening");
  const url = new URL(`http://127.0.0.1:${(source.address() as AddressInfo).port}/`);

  const keys = remoteKeys(url);
  const good = (): ReturnType<typeof verdict> => verdict(vector("good: RS256"), keys, rules, now);
  const unknown = (): ReturnType<typeof verdict> => verdict(vector("header: kid unknown"), keys, rules, now);
  assert.equal(typeof (await good()), "object");
  assert.equal(fetches, 1);
  assert.deepEqual(new Set(await Promise.all(Array.from({ length: 50 }, unknown))), new Set(["unknown_key"]));
  assert.equal(await unknown(), "unknown_key");
  assert.equal(fetches, 2);

  source.close();
  source.closeAllConnections();
  assert.equal(typeof (await good()), "object");
  assert.equal(await unknown(), "unknown_key");

  const withoutKeys = verify(vector("good: RS256"), remoteKeys(url), rules, now);
  await assert.rejects(withoutKeys, (error) => !(error instanceof InvalidToken));
});
