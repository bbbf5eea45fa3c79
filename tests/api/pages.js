// Follows the links of real mails in headless Chromium, as people do: on a phone and at a desk, by touch and by
// keyboard. The mails are files, as `cargo run` writes them.
//
//   pages.js AUTH_URL MAIL_FOLDER FOLDER
//
// The browser is CHROMIUM; FOLDER gets screenshots. Prints a line for each check; those that failed
// begin with FAIL.

"use strict";

const { existsSync, readFileSync, readdirSync } = require("node:fs");
const path = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");
const { chromium } = require("playwright-core");

const [authUrl, mails, folder] = process.argv.slice(2);
const PASSWORD = "correct horse battery staple";
const DEVICES = {
  phone: { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 },
  desk: { viewport: { width: 1280, height: 800 } },
};

function report(name, ...faults) {
  console.log(`${faults.length ? "FAIL" : "ok  "}  ${name}`);
  for (const fault of faults) console.log(`      ${String(fault).replaceAll("\n", "\n      ")}`);
}

function expect(name, seen, wanted) {
  report(name, ...(seen === wanted ? [] : [`${JSON.stringify(seen)} where ${JSON.stringify(wanted)} should be`]));
}

async function post(route, body) {
  const answer = await fetch(authUrl + route, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, json: text ? JSON.parse(text) : {} };
}

/** What a token says of its owner, unchecked. */
function claims(token) {
  return JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());
}

const read = new Set();

/** The link of the next mail to an address. */
async function nextLink(address) {
  for (let tries = 0; tries < 200; tries += 1) {
    // The folder comes with the first mail.
    for (const file of existsSync(mails) ? readdirSync(mails).sort() : []) {
      if (!file.endsWith(".eml") || read.has(file)) continue;
      const text = readFileSync(path.join(mails, file), "utf8");
      if (!text.includes(`To: ${address}`)) continue;
      read.add(file);
      const link = text.match(/http:\/\/\S+#token=[\w-]+/)?.[0];
      if (link) return link;
    }
    await sleep(50);
  }
  throw new Error(`no mail to ${address} with a link in ${mails}`);
}

/** A page behind a link, and what must not happen on it. */
class Page {
  static async open(browser, device, name, link) {
    const context = await browser.newContext(DEVICES[device]);
    context.setDefaultTimeout(15_000);
    const own = new Page();
    Object.assign(own, { context, name: `${device}: ${name}`, device, faults: [], page: await context.newPage() });
    const { origin } = new URL(link);
    own.page.on("console", (message) => {
      // An answer of 4xx is an error for the console, not for us.
      const isAnswer = message.text().startsWith("Failed to load resource");
      if (["error", "warning"].includes(message.type()) && !isAnswer) own.faults.push(`console: ${message.text()}`);
    });
    own.page.on("pageerror", (error) => own.faults.push(`exception: ${error}`));
    own.page.on("request", (request) => {
      const to = new URL(request.url());
      if (to.origin !== origin && to.protocol !== "data:") own.faults.push(`a request to ${to}`);
      if (request.url().includes("token=")) own.faults.push(`the secret is sent in ${request.url()}`);
      if (request.headers().referer?.includes("token=")) own.faults.push("the secret is in a Referer field");
    });
    await own.page.exposeFunction("reportViolation", (violation) => own.faults.push(`CSP: ${violation}`));
    await own.page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    const response = await own.page.goto(link);
    expect(`${own.name}: the page opens`, response.status(), 200);
    return own;
  }

  heading() {
    return this.page.locator("h1").innerText();
  }

  message() {
    return this.page.locator("#message").innerText();
  }

  /** Waits until the page has this heading. */
  async ends(heading) {
    await this.page.locator("h1", { hasText: heading }).waitFor();
    expect(`${this.name}: the form is gone`, await this.page.locator("#form").isVisible(), false);
    // Whoever hears the page is told.
    const focused = await this.page.evaluate(() => document.activeElement.id);
    expect(`${this.name}: what is said has the focus`, focused, "message");
  }

  async screenshot(name) {
    const wide = await this.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    expect(`${this.name}: nothing is wider than the screen`, wide <= 0, true);
    await this.page.screenshot({ path: path.join(folder, `${name}-${this.device}.png`), fullPage: true });
  }

  async close() {
    report(`${this.name}: no error, no violation of the policy, no other origin, no secret sent`, ...this.faults);
    await this.context.close();
  }
}

async function verify(browser, device, email) {
  await post("/auth/register", { email, password: PASSWORD });
  const link = await nextLink(email);
  const isVerified = async () => {
    const login = await post("/auth/login", { email, password: PASSWORD });
    return claims(login.json.access_token).email_verified;
  };
  // A scanner of mail opens the page and runs its script.
  const scanner = await Page.open(browser, device, "a look at the page", link);
  await sleep(500);
  await scanner.close();
  expect(`${device}: looking at the page confirms nothing`, await isVerified(), false);

  const page = await Page.open(browser, device, "confirming", link);
  await page.screenshot("verify");
  if (device === "phone") await page.page.locator("#submit").tap();
  else await page.page.locator("#submit").click();
  await page.ends("Your email address is confirmed");
  expect(`${device}: the secret has left the address`, await page.page.evaluate(() => location.hash), "");
  await page.screenshot("verify-done");
  await page.close();
  expect(`${device}: the address is confirmed`, await isVerified(), true);

  const again = await Page.open(browser, device, "a used link", link);
  await again.page.locator("#submit").click();
  await again.ends("This link does not work any more");
  await again.screenshot("verify-used");
  await again.close();

  const cut = await Page.open(browser, device, "half a link", link.split("#")[0]);
  expect(`${device}: half a link has no button`, await cut.page.locator("#submit").isVisible(), false);
  expect(`${device}: it says why`, (await cut.message()).startsWith("This link is not complete."), true);
  await cut.close();
}

async function reset(browser, device, email) {
  const changed = `${PASSWORD} of ${device}`;
  expect(`${device}: a reset can be asked for`, (await post("/auth/password/forgot", { email })).status, 202);
  const page = await Page.open(browser, device, "resetting", await nextLink(email));
  const field = page.page.locator("#new_password");
  await page.screenshot("reset");

  // By keyboard alone: the field, the button beside it, and the one that sends.
  await page.page.keyboard.press("Tab");
  expect(`${device}: the first stop is the password`, await field.evaluate((own) => own === document.activeElement), true);
  await page.page.keyboard.press("Enter");
  const error = page.page.locator("#new_password-error");
  expect(`${device}: nothing is not sent`, await error.innerText(), "Please enter a new password.");
  await page.page.keyboard.type("password1");
  await page.page.keyboard.press("Tab");
  await page.page.keyboard.press("Space");
  expect(`${device}: the password can be seen`, await field.getAttribute("type"), "text");
  await page.page.keyboard.press("Space");
  expect(`${device}: and hidden`, await field.getAttribute("type"), "password");
  await page.page.keyboard.press("Tab");
  await page.page.keyboard.press("Enter");
  await page.page.waitForFunction(() => document.getElementById("new_password-error").textContent.startsWith("The password"));
  expect(`${device}: a weak password is marked`, await field.getAttribute("aria-invalid"), "true");
  expect(`${device}: and has the focus again`, await field.evaluate((own) => own === document.activeElement), true);
  await page.screenshot("reset-weak");

  // The link is still good.
  await field.fill(changed);
  await page.page.keyboard.press("Enter");
  await page.ends("Your new password is set");
  await page.screenshot("reset-done");
  await page.close();
  expect(`${device}: the new password is good`, (await post("/auth/login", { email, password: changed })).status, 200);
  expect(`${device}: the old one is not`, (await post("/auth/login", { email, password: PASSWORD })).status, 401);
}

async function main() {
  const browser = await chromium.launch({
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
  });
  try {
    for (const device of Object.keys(DEVICES)) {
      const email = `ada.${device}@example.com`;
      await verify(browser, device, email);
      await reset(browser, device, email);
    }
  } catch (error) {
    report("the pages can be used", error.stack);
  } finally {
    await browser.close();
  }
}

main();
