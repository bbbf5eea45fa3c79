// Every method of the client, against running services.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { type Code, Latchkey, memoryStore, NotSignedInError, ProblemError, UnreachableError } from "../src/index.js";
import { authUrl, mailFolder, userUrl } from "./settings.js";

function client(tokens = memoryStore()): Latchkey {
  return new Latchkey({ authUrl: authUrl(), userUrl: userUrl(), tokens });
}

async function newcomer() {
  const who = { email: `ada-${randomUUID()}@example.com`, password: randomUUID() };
  const tokens = memoryStore();
  const latchkey = client(tokens);
  const account = await latchkey.register(who);
  await latchkey.login(who);
  return { ...who, latchkey, account, tokens };
}

async function refused(call: Promise<unknown>, code: Code): Promise<ProblemError> {
  const error = await call.then(() => assert.fail(`no ${code}`), (thrown: unknown) => thrown);
  assert.ok(error instanceof ProblemError, String(error));
  assert.equal(error.code, code);
  return error;
}

/** The secret of the link to a page in the mail to an address. */
async function secretOf(page: string, to: string): Promise<string> {
  const link = new RegExp(`${page}#token=([A-Za-z0-9_-]+)`);
  const deadline = performance.now() + 10_000;
  while (performance.now() < deadline) {
    // The folder comes with the first mail.
    for (const file of await readdir(mailFolder()).catch(() => [])) {
      const mail = await readFile(join(mailFolder(), file), "utf8");
      const found = mail.includes(`To: ${to}`) && link.exec(mail);
      if (found && found[1]) return found[1];
    }
    await sleep(100);
  }
  return assert.fail(`no mail to ${to} with a link to ${page}`);
}

test("an account has a profile, which its owner edits", async () => {
  const { latchkey, account, email } = await newcomer();
  const { profile, etag } = await latchkey.profile();
  assert.deepEqual([profile.id, profile.email, profile.name, profile.bio], [account.id, email, "", ""]);
  const replaced = await latchkey.replaceProfile({ name: "Ada", bio: "Counts." }, { etag });
  const updated = await latchkey.updateProfile({ bio: null }, { etag: replaced.etag });
  assert.deepEqual([updated.profile.name, updated.profile.bio], ["Ada", ""]);
  await refused(latchkey.updateProfile({ name: "Too late" }, { etag }), "precondition_failed");
  assert.deepEqual((await latchkey.profile(account.id)).etag, updated.etag);
  const { users, next_page_token } = await latchkey.profiles({ page_size: 1 });
  assert.equal(users.length, 1);
  if (next_page_token) assert.ok((await latchkey.profiles({ page_token: next_page_token })).users.length > 0);
});

test("refusals are typed", async () => {
  const { latchkey, email, password } = await newcomer();
  await refused(latchkey.register({ email, password }), "email_already_registered");
  const { faults, status, requestId } = await refused(latchkey.register({ email: "x", password: "y" }), "validation_failed");
  assert.deepEqual(faults.map(({ pointer, code }) => `${pointer} ${code}`), ["/email invalid_email", "/password password_too_short"]);
  assert.equal(status, 400);
  assert.match(requestId ?? "", /^[0-9a-f-]{36}$/);
  await refused(latchkey.profile(randomUUID()), "user_not_found");
  await assert.rejects(client().profile(), NotSignedInError);
  const nowhere = new Latchkey({ authUrl: "http://127.0.0.1:9", userUrl: userUrl() });
  await assert.rejects(nowhere.login({ email, password }), UnreachableError);
  // Three failed logins are allowed (clients/README.md), then it says how long to wait.
  for (const _ of Array(3)) await refused(latchkey.login({ email, password: "a guess" }), "invalid_credentials");
  const { retryAfter } = await refused(latchkey.login({ email, password }), "too_many_attempts");
  assert.ok(retryAfter !== undefined && retryAfter > 0 && retryAfter <= 900);
});

test("sessions are listed, refreshed and ended", async () => {
  const { latchkey, email, password, tokens } = await newcomer();
  const other = client();
  await other.login({ email, password });
  const before = await tokens.get();
  await latchkey.refresh();
  assert.notDeepEqual(await tokens.get(), before);
  const sessions = await latchkey.sessions();
  assert.deepEqual(sessions.map(({ current }) => current).sort(), [false, true]);
  const theirs = sessions.find(({ current }) => !current);
  await latchkey.endSession(theirs?.id ?? "");
  await refused(latchkey.endSession(theirs?.id ?? ""), "session_not_found");
  await assert.rejects(other.refresh(), NotSignedInError);
  await latchkey.logout();
  assert.equal(await latchkey.isSignedIn(), false);
  await latchkey.login({ email, password });
  await latchkey.endAllSessions();
  assert.equal(await latchkey.isSignedIn(), false);
});

test("a token that the services refuse is replaced", async () => {
  const { latchkey, tokens } = await newcomer();
  const held = await tokens.get();
  // Signed for somebody else: `invalid_token`.
  await tokens.set({ ...held, access_token: `${held?.access_token.slice(0, -8)}AAAAAAAA` });
  assert.equal((await latchkey.sessions()).length, 1);
  assert.notEqual((await tokens.get())?.refresh_token, held?.refresh_token);
});

test("passwords are changed, forgotten and reset", async () => {
  const { latchkey, email, password } = await newcomer();
  const changed = randomUUID();
  await refused(latchkey.changePassword({ current_password: "wrong", new_password: changed }), "invalid_credentials");
  await latchkey.changePassword({ current_password: password, new_password: changed });
  await latchkey.refresh();
  assert.equal((await latchkey.sessions()).length, 1);

  await latchkey.forgotPassword(email);
  const token = await secretOf("/account/reset-password", email);
  const weak = await refused(latchkey.resetPassword({ token, new_password: "short" }), "validation_failed");
  assert.deepEqual(weak.faults.map(({ pointer }) => pointer), ["/new_password"]);
  const reset = randomUUID();
  await latchkey.resetPassword({ token, new_password: reset });
  await refused(latchkey.resetPassword({ token, new_password: reset }), "invalid_link");
  await assert.rejects(latchkey.refresh(), NotSignedInError);
  await latchkey.login({ email, password: reset });
});

test("an email is changed once it is confirmed", async () => {
  const { latchkey, password } = await newcomer();
  const email = `ada-${randomUUID()}@example.com`;
  await latchkey.changeEmail({ email, current_password: password });
  await latchkey.verifyEmail(await secretOf("/account/verify-email", email));
  await latchkey.login({ email, password });
  assert.equal((await latchkey.profile()).profile.email, email);
  await latchkey.sendVerification(email);
  await refused(latchkey.verifyEmail("nothing"), "invalid_link");
});

test("an account goes, from either side", async () => {
  const [ada, eve] = [await newcomer(), await newcomer()];
  await refused(ada.latchkey.deleteAccount("wrong"), "invalid_credentials");
  await ada.latchkey.deleteAccount(ada.password);
  await eve.latchkey.deleteProfile();
  for (const { latchkey, email, password } of [ada, eve]) {
    assert.equal(await latchkey.isSignedIn(), false);
    const deadline = performance.now() + 10_000;
    const gone = async () => latchkey.login({ email, password }).then(() => false, (error) => error.code === "invalid_credentials");
    while (!(await gone())) assert.ok(performance.now() < deadline);
  }
});
