// Uses the page /docs of both services as a person would, in headless Chromium: registers, logs in,
// authorises, and reads the profile.
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

const ANSWER = ".responses-inner .curl-command";
const [authUrl, userUrl, folder] = process.argv.slice(2);
const credentials = { email: "ada.lovelace@example.com", password: "correct horse battery staple" };

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

  async screenshot(name, block) {
    if (block) await block.evaluate((element) => element.scrollIntoView());
    await this.page.screenshot({ path: path.join(folder, `${this.name}-${name}.png`), fullPage: !block });
  }

  /** Whatever was seen while the page was used. */
  close() {
    report(`${this.name}: no error in the console, no violation of the policy, no other origin`, ...this.faults);
  }
}

async function useAuth(context) {
  const docs = await Docs.open(context, "auth", authUrl);
  expectText("auth: the title", await docs.page.title(), "Latchkey auth service");
  await docs.screenshot("start");

  const register = await docs.operation("register");
  const body = JSON.stringify(credentials);
  await register.locator("textarea").fill(body);
  const account = await docs.execute(register);
  expectText("auth: the page registers", `${account.status} ${account.text}`, "201", credentials.email);
  await docs.screenshot("register", register.locator(ANSWER));
  await register.locator(".opblock-summary-control").click();

  const login = await docs.operation("login");
  await login.locator("textarea").fill(body);
  const token = await docs.execute(login);
  expectText("auth: the page logs in", `${token.status} ${token.text}`, "200", '"token_type": "Bearer"');
  await docs.screenshot("login", login.locator(ANSWER));

  await login.locator("textarea").fill(JSON.stringify({ ...credentials, password: "wrong horse" }));
  await login.locator(".btn-clear").click();
  const refused = await docs.execute(login);
  expectText("auth: the page shows a refusal", `${refused.status} ${refused.text}`, "401", "invalid_credentials");
  docs.close();
  return {
    id: account.text.match(/"id": "([^"]+)"/)?.[1],
    token: token.text.match(/"access_token": "([^"]+)"/)?.[1],
  };
}

async function useUser(context, { id, token }) {
  const docs = await Docs.open(context, "user", userUrl);
  expectText("user: the title", await docs.page.title(), "Latchkey user service");
  await docs.screenshot("start");

  const read = await docs.operation("getUser");
  await read.locator('tr[data-param-name="id"] input').fill(id);
  const refused = await docs.execute(read);
  expectText("user: without a token the page shows a refusal", `${refused.status} ${refused.text}`, "401", "unauthenticated");

  await docs.page.locator(".btn.authorize").first().click();
  const dialog = docs.page.locator(".modal-ux");
  await dialog.locator("input").fill(token);
  await docs.screenshot("authorize", dialog);
  await dialog.locator(".btn.authorize").click();
  await dialog.locator(".btn-done").click();

  await read.locator(".btn-clear").click();
  const profile = await docs.execute(read);
  expectText("user: the page reads the profile", `${profile.status} ${profile.text}`, "200", id, credentials.email, "etag:");
  await docs.screenshot("profile", read.locator(ANSWER));
  await read.locator(".opblock-summary-control").click();

  const change = await docs.operation("patchUser");
  await change.locator('tr[data-param-name="id"] input').fill(id);
  const changed = await docs.execute(change);
  expectText("user: the page changes the profile", `${changed.status} ${changed.text}`, "200", '"name": "Ada King"');
  await docs.screenshot("change", change.locator(ANSWER));
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
