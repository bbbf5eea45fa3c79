// Uses the page /docs of both services as a person would, in headless Chromium: sends the examples as they
// stand, one after the other, takes the token from the one page to the other, and edits the profile.
//
//   docs.js AUTH_URL USER_URL FOLDER
//
// The browser is CHROMIUM; FOLDER gets screenshots. Prints a line for each check; those that failed
// begin with FAIL.

"use strict";

const { mkdtempSync, rmSync } = require("node:fs");
const { tmpdir } = require("node:os");
const path = require("node:path");
const { chromium } = require("playwright-core");

const [authUrl, userUrl, folder] = process.argv.slice(2);
// Of the examples in the document.
const credentials = { email: "ada@example.com", password: "correct horse battery staple" };

function report(name, ...faults) {
  console.log(`${faults.length ? "FAIL" : "ok  "}  ${name}`);
  for (const fault of faults) console.log(`      ${String(fault).replaceAll("\n", "\n      ")}`);
}

function expectText(name, text, ...expected) {
  report(name, ...expected.filter((part) => !text.includes(part)).map((part) => `no ${part} in: ${text}`));
}

/** The page of a service, and what must not happen on it. */
class Docs {
  constructor(page, name, url) {
    Object.assign(this, { page, name, url, faults: [] });
  }

  static async open(context, name, url) {
    const page = await context.newPage();
    const docs = new Docs(page, name, url);
    const { origin } = new URL(url);
    page.on("console", (message) => {
      // An answer of 4xx is an error for the console, not for us.
      const isAnswer = message.text().startsWith("Failed to load resource");
      if (["error", "warning"].includes(message.type()) && !isAnswer) docs.faults.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => docs.faults.push(`exception: ${error}`));
    page.on("request", (request) => {
      const to = new URL(request.url());
      if (to.origin !== origin && to.protocol !== "data:") docs.faults.push(`a request to ${to}`);
    });
    await page.exposeFunction("reportViolation", (violation) => docs.faults.push(`CSP: ${violation}`));
    await page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    const response = await page.goto(`${url}/docs`);
    await page.locator(".opblock").first().waitFor();
    report(`${name}: the page opens`, ...(response.status() === 200 ? [] : [response.status()]));
    return docs;
  }

  /** Opens an operation. */
  async operation(id) {
    const block = this.page.locator(`.opblock[id$="-${id}"]`);
    await block.locator(".opblock-summary-control").click();
    await block.locator(".btn.execute").waitFor();
    return block;
  }

  /** Sends what the form of an operation holds; returns the answer that the page shows. */
  async execute(block) {
    await block.locator(".btn.execute").click();
    const live = block.locator(".live-responses-table .response").first();
    await live.waitFor();
    const status = (await live.locator(".response-col_status").innerText()).trim();
    return { status: status.slice(0, 3), text: await live.locator(".response-col_description").innerText() };
  }

  /** Opens an operation, sends its example as it stands, and closes it. */
  async run(id) {
    const block = await this.operation(id);
    const answer = await this.execute(block);
    await block.locator(".opblock-summary-control").click();
    return answer;
  }

  async reload() {
    await this.page.reload();
    await this.page.locator(".opblock").first().waitFor();
  }

  async screenshot(name) {
    await this.page.evaluate(() => scrollTo(0, 0));
    await this.page.screenshot({ path: path.join(folder, `${this.name}-${name}.png`) });
  }

  /** Whatever was seen while the page was used. */
  close() {
    report(`${this.name}: no error in the console, no violation of the policy, no other origin`, ...this.faults);
  }
}

/** Whether the page says who it sends requests as, and still does after a reload. */
async function expectOwner(docs) {
  const line = docs.page.locator("#access");
  expectText(`${docs.name}: the page says who it sends requests as`, await line.innerText(), credentials.email);
  await docs.reload();
  expectText(`${docs.name}: it still does after a reload`, await line.innerText(), credentials.email);
}

async function useAuth(context) {
  const docs = await Docs.open(context, "auth", authUrl);
  expectText("auth: the title", await docs.page.title(), "Latchkey auth service");
  expectText("auth: the page says that nobody is logged in", await docs.page.locator("#access").innerText(), "Not logged in");
  await docs.screenshot("start");

  // As they are on the page, one after the other.
  const account = await docs.run("register");
  expectText("auth: the page registers", `${account.status} ${account.text}`, "201", credentials.email);
  const login = await docs.run("login");
  expectText("auth: the page logs in", `${login.status} ${login.text}`, "200", '"token_type": "Bearer"', '"refresh_token": "lkr_');
  await expectOwner(docs);
  for (const [operation, status] of [["refresh", "200"], ["listSessions", "200"], ["changeEmail", "202"], ["changePassword", "200"]]) {
    expectText(`auth: the example of ${operation} works`, (await docs.run(operation)).status, status);
  }
  const refused = await docs.run("deleteOwnAccount");
  expectText("auth: the page shows a refusal", `${refused.status} ${refused.text}`, "403", "invalid_credentials");
  await docs.page.getByText("Copy access token").click();
  const token = await docs.page.evaluate(() => navigator.clipboard.readText());
  await docs.screenshot("logged-in");
  expectText("auth: the example of logout works", (await docs.run("logout")).status, "204");
  await docs.page.getByText("Forget it").click();
  expectText("auth: the page forgets the token", await docs.page.locator("#access").innerText(), "Not logged in");
  docs.close();
  return token;
}

/** The token of a login that lasts. */
async function logIn() {
  const answer = await fetch(`${authUrl}/auth/login`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...credentials, password: "battery staple correct horse" }),
  });
  return (await answer.json()).access_token;
}

async function useUser(context, copied) {
  const docs = await Docs.open(context, "user", userUrl);
  expectText("user: the title", await docs.page.title(), "Latchkey user service");
  const line = docs.page.locator("#access");
  expectText("user: the page says where to log in", await line.innerText(), "/docs, copy the access token");
  await docs.screenshot("start");
  const anonymous = await docs.run("getUser");
  expectText("user: without a token the page shows a refusal", `${anonymous.status} ${anonymous.text}`, "401", "unauthenticated");

  const paste = async (text) => {
    await line.locator("input").fill(text);
    await line.getByText("Use this token").click();
  };
  await paste("no token");
  expectText("user: what is no token is not taken", await line.innerText(), "no access token");
  expectText("user: what the other page copies is a token", copied, "eyJ");
  await paste(`Bearer ${await logIn()}`);
  await expectOwner(docs);
  const profile = await docs.run("getUser");
  expectText("user: the page reads the profile", `${profile.status} ${profile.text}`, "200", credentials.email, "etag:");
  for (const [operation, status, text] of [["listUsers", "200", '"users"'], ["replaceUser", "200", "Ada Lovelace"], ["patchUser", "200", "Ada King"]]) {
    const answer = await docs.run(operation);
    expectText(`user: the example of ${operation} works`, `${answer.status} ${answer.text}`, status, text);
  }
  await docs.screenshot("logged-in");
  await docs.page.setViewportSize({ width: 390, height: 844 });
  for (const colorScheme of ["light", "dark"]) {
    await docs.page.emulateMedia({ colorScheme });
    await docs.screenshot(`phone-${colorScheme}`);
  }
  const width = await docs.page.evaluate(() => document.documentElement.scrollWidth);
  report("user: the page fits on a phone", ...(width <= 390 ? [] : [`it is ${width} pixels wide`]));
  docs.close();
}

async function main() {
  const profile = mkdtempSync(path.join(tmpdir(), "latchkey-chromium."));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    args: [
      // Root has no sandbox. The pages are our own.
      ...(process.getuid() === 0 ? ["--no-sandbox"] : []),
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-quic",
      "--disable-sync",
      "--no-first-run",
    ],
    viewport: { width: 1280, height: 1000 },
    permissions: ["clipboard-read", "clipboard-write"],
  });
  context.setDefaultTimeout(15_000);
  try {
    await useUser(context, await useAuth(context));
  } catch (error) {
    report("the pages can be used", error.stack);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

main();
