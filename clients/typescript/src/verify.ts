import { compactVerify, type CompactVerifyGetKey, errors } from "jose";

import { JsonError, jsonObject } from "./json.js";
import type { RevocationList } from "./revocations.js";

/** What a valid token says. Times are in whole seconds since 1970-01-01T00:00:00Z. */
export interface Claims {
  /** The account's id: a UUID in lower case. */
  sub: string;
  email?: string;
  iat: number;
  exp: number;
  nbf?: number;
  iss?: string;
  aud: string[];
  jti?: string;
  /** The generation of the account's credentials; absent, it is 0. */
  gen: number;
  /** The session that the token belongs to. */
  sid?: string;
  email_verified?: boolean;
}

/** What is demanded beyond a good signature. */
export interface Rules {
  /** The only issuer whose tokens are taken. Unset: any whose key is known. */
  issuer?: string;
  /** Whom the tokens must be for. Unset: anybody. */
  audience?: string;
  /** How long after `exp` a token is still taken, in seconds. */
  expLeeway?: number;
  /** How far `iat` and `nbf` may lie in the future, in seconds: two clocks never agree. */
  clockSkew?: number;
  /** Refuses the tokens that it lists. Unset: no token is looked up. */
  revocations?: RevocationList;
}

/**
 * The token is refused. The reasons are those of Rust's `VerifyError::reason`, and `revoked`. A token that is
 * `expired` or `revoked` is good but for that.
 */
export class InvalidToken extends Error {
  constructor(readonly reason: string) {
    super(`the token is refused: ${reason}`);
  }
}

function refuse(reason: string): never {
  throw new InvalidToken(reason);
}

const MAX_TOKEN_BYTES = 8 * 1024;
const MAX_EMAIL_BYTES = 254;
const MAX_TRIES = 16;
/** The last second of the year 9999. */
const MAX_TIME = 253_402_300_799;
/** `Ed25519` is the name that RFC 9864 gives to EdDSA on that curve. */
const ALGORITHMS = ["RS256", "ES256", "EdDSA", "Ed25519"];
const TYPES = ["jwt", "at+jwt", "application/at+jwt"];

/**
 * Checks a token and returns its claims. Throws `InvalidToken` if it is refused, and whatever `keys`
 * throws if there are no keys to check it with: that is no fault of the token.
 *
 * jose chooses the key and checks the signature. The rest is here, since jose, like most libraries,
 * is laxer than a token should be read: crates/token-verifier/README.md has the list.
 */
export async function verify(
  token: string,
  keys: CompactVerifyGetKey,
  rules: Rules = {},
  now = Math.floor(Date.now() / 1000),
): Promise<Claims> {
  if (Buffer.byteLength(token) > MAX_TOKEN_BYTES) refuse("too_long");
  const [header, payload, signature, ...more] = token.split(".");
  if (header === undefined || payload === undefined || signature === undefined || more.length > 0) {
    refuse("not_compact");
  }
  checkHeader(object(decode(header)));
  decode(signature);
  await checkSignature(token, keys);
  const claims = readClaims(object(decode(payload)));
  checkParties(claims, rules);
  checkTimes(claims, rules, now);
  if (rules.revocations?.revokes(claims)) refuse("revoked");
  return claims;
}

/** Refuses padding, other alphabets and left-over bits, so that one token has one text only. */
function decode(segment: string): Uint8Array {
  const bytes = Buffer.from(segment, "base64url");
  return bytes.toString("base64url") === segment ? bytes : refuse("bad_base64");
}

function object(bytes: Uint8Array): Record<string, unknown> {
  try {
    return jsonObject(bytes);
  } catch (error) {
    return error instanceof JsonError ? refuse(error.reason) : refuse("bad_json");
  }
}

function checkHeader(header: Record<string, unknown>): void {
  const has = (...names: string[]): boolean => names.some((name) => Object.hasOwn(header, name));
  if (has("jwk", "jku", "x5c", "x5u")) refuse("key_in_header");
  if (has("crit")) refuse("critical_header");
  if (has("b64", "enc", "zip")) refuse("unsupported_header");
  const { typ, alg, kid } = header;
  // Media types are compared without regard to case (RFC 7515 section 4.1.9), names of algorithms are not.
  if (typ !== undefined && !(typeof typ === "string" && TYPES.includes(typ.toLowerCase()))) refuse("wrong_type");
  if (typeof alg !== "string" || !ALGORITHMS.includes(alg)) refuse("unsupported_algorithm");
  if (kid !== undefined && typeof kid !== "string") refuse("bad_kid");
}

/** jose takes only keys that are for the header's algorithm and for signatures, and that its `kid` names. */
async function checkSignature(token: string, keys: CompactVerifyGetKey): Promise<void> {
  // Of the two names of one algorithm, a JWKS has the older one.
  const named: CompactVerifyGetKey = (header, jws) =>
    keys(header.alg === "Ed25519" ? { ...header, alg: "EdDSA" } : header, jws);
  try {
    await compactVerify(token, named, { algorithms: ALGORITHMS });
  } catch (error) {
    if (error instanceof errors.JWKSNoMatchingKey) refuse("unknown_key");
    if (error instanceof errors.JWSSignatureVerificationFailed) refuse("bad_signature");
    // A token without a kid may be of any key.
    if (error instanceof errors.JWKSMultipleMatchingKeys) return checkEach(token, error);
    throw error;
  }
}

async function checkEach(token: string, candidates: errors.JWKSMultipleMatchingKeys): Promise<void> {
  let tries = 0;
  for await (const key of candidates) {
    if (++tries > MAX_TRIES) break;
    try {
      await compactVerify(token, key, { algorithms: ALGORITHMS });
      return;
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error;
    }
  }
  refuse("bad_signature");
}

/** One account has one spelling: lower case with hyphens (RFC 9562 section 4). */
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const NIL_UUID = "00000000-0000-0000-0000-000000000000";

function isId(text: string): boolean {
  return UUID.test(text) && text !== NIL_UUID;
}

function readClaims(members: Record<string, unknown>): Claims {
  const sub = text(members["sub"]) ?? refuse("missing_claim");
  if (!isId(sub)) refuse("invalid_claim");
  const email = text(members["email"]);
  if (email !== undefined && Buffer.byteLength(email) > MAX_EMAIL_BYTES) refuse("invalid_claim");
  const iat = time(members["iat"]) ?? refuse("missing_claim");
  const exp = time(members["exp"]) ?? refuse("missing_claim");
  const nbf = time(members["nbf"]);
  const iss = text(members["iss"]);
  const aud = audience(members["aud"]);
  const jti = text(members["jti"]);
  const gen = generation(members["gen"]);
  const sid = text(members["sid"]);
  if (sid !== undefined && !isId(sid)) refuse("invalid_claim");
  const verified = members["email_verified"];
  if (verified !== undefined && typeof verified !== "boolean") refuse("invalid_claim");
  return {
    sub,
    ...(email !== undefined && { email }),
    iat,
    exp,
    ...(nbf !== undefined && { nbf }),
    ...(iss !== undefined && { iss }),
    aud,
    ...(jti !== undefined && { jti }),
    gen,
    ...(sid !== undefined && { sid }),
    ...(verified !== undefined && { email_verified: verified }),
  };
}

function text(claim: unknown): string | undefined {
  return claim === undefined || typeof claim === "string" ? claim : refuse("invalid_claim");
}

/** A fraction is cut off: for `exp` that is the stricter reading. */
function time(claim: unknown): number | undefined {
  if (claim === undefined) return undefined;
  return typeof claim === "number" && claim >= 0 && claim <= MAX_TIME ? Math.trunc(claim) : refuse("invalid_claim");
}

function generation(claim: unknown): number {
  if (claim === undefined) return 0;
  return typeof claim === "number" && Number.isSafeInteger(claim) && claim >= 0 ? claim : refuse("invalid_claim");
}

function audience(claim: unknown): string[] {
  if (claim === undefined) return [];
  const names: unknown[] = Array.isArray(claim) ? claim : [claim];
  return names.map((name) => (typeof name === "string" ? name : refuse("invalid_claim")));
}

function checkTimes({ exp, iat, nbf = 0 }: Claims, { expLeeway = 0, clockSkew = 60 }: Rules, now: number): void {
  if (iat > now + clockSkew || nbf > now + clockSkew) refuse("not_yet_valid");
  if (exp <= now - expLeeway) refuse("expired");
}

function checkParties({ iss, aud }: Claims, { issuer, audience }: Rules): void {
  if (issuer !== undefined && iss !== issuer) refuse(iss === undefined ? "missing_claim" : "wrong_issuer");
  if (audience !== undefined && !aud.includes(audience)) {
    refuse(aud.length === 0 ? "missing_claim" : "wrong_audience");
  }
}
