import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { execPath } from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Code } from "@connectrpc/connect";

import { HealthCheckResponse_ServingStatus as ServingStatus } from "../gen/grpc/health/v1/health_pb.js";
import { authService, type Failure, failure, userService } from "../src/client.js";
import { authGrpc, userGrpc } from "./settings.js";

async function failureOf(call: Promise<unknown>): Promise<Failure> {
  return call.then(() => assert.fail("the call succeeded"), failure);
}

async function newcomer() {
  const { auth } = authService(authGrpc());
  const email = `ada-${randomUUID()}@example.com`;
  const password = randomUUID();
  const { id } = await auth.register({ email, password });
  const { accessToken } = await auth.login({ email, password });
  const { users } = userService(userGrpc(), () => accessToken);
  return { auth, users, email, password, id };
}

test("the example runs", async () => {
  const program = fileURLToPath(new URL("../src/example.js", import.meta.url));
  const { stdout } = await promisify(execFile)(execPath, [program, authGrpc(), userGrpc()]);
  const uuid = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}";
  const expected = [
    /^auth\.v1\.AuthService is SERVING$/,
    /^user\.v1\.UserService is SERVING$/,
    new RegExp(`^registered ${uuid}$`),
    /^again: AlreadyExists, email_already_registered$/,
    /^malformed: InvalidArgument, validation_failed$/,
    /^ {2}email: \S/,
    /^ {2}password: \S/,
    /^logged in for \d+ s$/,
    new RegExp(`^the profile of ada-${uuid}@example\\.com has the name ""$`),
    /^now it has the name "Ada Lovelace"$/,
    /^with the old etag: Aborted, precondition_failed$/,
    /^guess \d+: ResourceExhausted, too_many_attempts, again in \d+ s$/,
  ];
  const lines = stdout.trimEnd().split("\n");
  expected.forEach((pattern, index) => assert.match(lines[index] ?? "", pattern));
  assert.equal(lines.length, expected.length, stdout);
});

test("health tells each service apart", async () => {
  const { health } = authService(authGrpc());
  assert.equal((await health.check({ service: "" })).status, ServingStatus.SERVING);
  assert.equal((await health.check({ service: "auth.v1.AccountService" })).status, ServingStatus.SERVING);
  assert.equal((await failureOf(health.check({ service: "no.such.Service" }))).code, Code.NotFound);
});

test("all faults of the input come at once", async () => {
  const { auth } = authService(authGrpc());
  const { code, reason, faults } = await failureOf(auth.register({ email: "nobody", password: "short" }));
  assert.equal(code, Code.InvalidArgument);
  assert.equal(reason, "validation_failed");
  assert.deepEqual(faults.map(({ field }) => field), ["email", "password"]);
});

test("the mask decides what changes", async () => {
  const { users, id, email } = await newcomer();
  await users.updateUser({ user: { id, name: "Ada", bio: "Analyst" }, updateMask: { paths: ["*"] } });
  await users.updateUser({ user: { id, name: "Grace", bio: "not read" }, updateMask: { paths: ["name"] } });
  const { user } = await users.getUser({ id });
  assert.deepEqual([user?.name, user?.bio, user?.email], ["Grace", "Analyst", email]);

  const unknown = users.updateUser({ user: { id }, updateMask: { paths: ["email", "shoe_size"] } });
  const { code, reason, faults } = await failureOf(unknown);
  assert.deepEqual([code, reason, faults.length], [Code.InvalidArgument, "validation_failed", 2]);
});

test("others' profiles can be read without the email, and not changed", async () => {
  const [ada, eve] = [await newcomer(), await newcomer()];
  await ada.users.getUser({ id: ada.id });
  const { user } = await eve.users.getUser({ id: ada.id });
  assert.deepEqual([user?.id, user?.email], [ada.id, undefined]);
  const { code, reason } = await failureOf(eve.users.updateUser({ user: { id: ada.id, name: "Eve" } }));
  assert.deepEqual([code, reason], [Code.PermissionDenied, "forbidden"]);
});

test("a bad token is refused", async () => {
  const { users } = userService(userGrpc(), () => "not.a.token");
  const { code, reason } = await failureOf(users.getUser({ id: randomUUID() }));
  assert.deepEqual([code, reason], [Code.Unauthenticated, "invalid_token"]);
});

test("a guarded account says when to come back", async () => {
  const { auth, email, password } = await newcomer();
  const guess = (): Promise<Failure> => failureOf(auth.login({ email, password: "a guess" }));
  const first = await guess();
  assert.deepEqual([first.code, first.reason], [Code.Unauthenticated, "invalid_credentials"]);
  // How many more are borne is a setting, 10 by default.
  for (let guesses = 2; guesses <= 11 && (await guess()).reason === "invalid_credentials"; guesses++);
  const { code, reason, retryAfterMs = 0 } = await failureOf(auth.login({ email, password }));
  assert.deepEqual([code, reason], [Code.ResourceExhausted, "too_many_attempts"]);
  assert.ok(retryAfterMs > 0 && retryAfterMs <= 900_000, `${retryAfterMs} ms`);
});
