// The example page in Chromium, from another origin than the services.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { env, execPath, getuid } from "node:process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { type BrowserContext, chromium, type Page } from "playwright-core";

import * as settings from "./settings.js";

let server: ChildProcess;
let browser: BrowserContext;
let folder: string;
/** What must not happen on a page. */
const faults: string[] = [];
/** What the pages ask of the services. */
const requests: string[] = [];

before(async () => {
  const program = fileURLToPath(new URL("../../tools/serve.js", import.meta.url));
  const { host, origin } = new URL(settings.pageOrigin());
  const services = { AUTH_HTTP: settings.authUrl(), USER_HTTP: settings.userUrl() };
  server = spawn(execPath, [program, host], { env: { ...env, ...services }, stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(server.stdout!, "data")) as [Buffer];
  assert.equal(line.toString().trim(), origin);
  folder = await mkdtemp(path.join(tmpdir(), "latchkey-page."));
  browser = await chromium.launchPersistentContext(folder, {
    executablePath: settings.chromium(),
    // Root has no sandbox. The page is our own.
    args: [...(getuid?.() === 0 ? ["--no-sandbox"] : []), "--disable-background-networking", "--disable-component-update"],
  });
  browser.setDefaultTimeout(15_000);
});

after(async () => {
  await browser?.close();
  server?.kill();
  if (folder) await rm(folder, { recursive: true, force: true });
});

async function open(): Promise<Page> {
  const page = await browser.newPage();
  page.on("console", (line) => {
    // An answer of 4xx is an error for the console, not for us; a missing permission by CORS is one for us.
    const isAnswer = line.text().startsWith("Failed to load resource: the server responded");
    if (["error", "warning"].includes(line.type()) && !isAnswer) faults.push(line.text());
  });
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("request", (request) => {
    const { origin, pathname, search } = new URL(request.url());
    assert.ok(!/lkr_|eyJ/.test(request.url()), `a token in ${request.url()}`);
    if (origin !== settings.pageOrigin()) requests.push(`${request.method()} ${pathname}${search}`);
  });
  await page.goto(settings.pageOrigin());
  return page;
}

const press = (page: Page, name: string) => page.getByRole("button", { name, exact: true }).click();
const says = (page: Page, text: string | RegExp) => page.locator("#message", { hasText: text }).waitFor();

test("a person signs up, edits the profile in two tabs, signs out and in", async () => {
  const [email, password] = [`ada-${randomUUID()}@example.com`, randomUUID()];
  const page = await open();
  await page.getByLabel("Email").fill(email);
  await page.getByLabel("Password").fill("short");
  await press(page, "Sign up");
  await says(page, "Please correct what is marked.");
  assert.match(await page.locator('[data-for="/password"]').innerText(), /^It .+\.$/);

  await page.getByLabel("Password").fill(password);
  await press(page, "Sign up");
  await says(page, "Welcome");
  assert.equal(await page.locator("#email").innerText(), email);
  await page.getByLabel("Name").fill("Ada Lovelace");
  await page.getByLabel("Bio").fill("Counts.");
  await press(page, "Save");
  await says(page, "Saved.");

  // The other tab is signed in, and its change is not overwritten by what this one has not seen.
  const other = await open();
  await other.locator("#profile").waitFor();
  assert.equal(await other.getByLabel("Name").inputValue(), "Ada Lovelace");
  await other.getByLabel("Name").fill("Ada King");
  await press(other, "Save");
  await says(other, "Saved.");
  await page.getByLabel("Name").fill("Ada Byron");
  await press(page, "Save");
  await says(page, "changed elsewhere");
  assert.equal(await page.getByLabel("Name").inputValue(), "Ada King");

  // Both tabs find that the access token is refused, at the same time: one of them refreshes.
  requests.length = 0;
  const held = await page.evaluate(() => localStorage.getItem("latchkey"));
  const { access_token, refresh_token } = JSON.parse(held ?? "{}") as Record<string, string>;
  const broken = JSON.stringify({ access_token: `${access_token?.slice(0, -8)}AAAAAAAA`, refresh_token });
  await page.evaluate((text) => localStorage.setItem("latchkey", text), broken);
  await Promise.all([page, other].map((tab) => press(tab, "Save")));
  // Whichever comes second learns of the first.
  await Promise.all([page, other].map((tab) => says(tab, /Saved\.|changed elsewhere/)));
  assert.deepEqual(requests.filter((line) => line.includes("refresh")), ["POST /auth/refresh"]);
  assert.equal(await page.getByLabel("Name").inputValue(), "Ada King");

  await press(page, "Sign out");
  await says(page, "Signed out.");
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  await press(other, "Save");
  await says(other, "Please sign in.");

  await page.reload();
  await page.getByLabel("Email").fill(email);
  await page.getByLabel("Password").fill("wrong horse");
  await press(page, "Sign in");
  await says(page, "The email or the password is wrong.");
  await page.getByLabel("Password").fill(password);
  await press(page, "Sign in");
  await says(page, "Signed in.");
  await page.reload();
  await page.locator("#profile").waitFor();
  assert.equal(await page.getByLabel("Name").inputValue(), "Ada King");
  assert.deepEqual(faults, []);
});

test("a page of an origin that is not allowed gets no answer", async () => {
  const page = await browser.newPage();
  const { port } = new URL(settings.pageOrigin());
  // Another name of the same server is another origin.
  await page.goto(`http://localhost:${port}`);
  await page.getByLabel("Email").fill("ada@example.com");
  await page.getByLabel("Password").fill("does not matter");
  await press(page, "Sign in");
  await says(page, "The service cannot be reached.");
});
