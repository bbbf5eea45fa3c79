"use strict";

// The script of both pages: reads the secret from the fragment of the URL, waits for a click, sends it, and
// shows the result. All text is set as text content and never as HTML.

const form = document.getElementById("form");
const title = document.getElementById("title");
const submit = document.getElementById("submit");
const message = document.getElementById("message");
const password = document.getElementById("new_password");
const passwordError = document.getElementById("new_password-error");
const show = document.getElementById("show");

// A password may have to wait to be hashed. The service has a shorter timeout than this.
const TIMEOUT = 45000;

let token = "";
let busy = false;

function begin() {
  token = new URLSearchParams(location.hash.slice(1)).get("token") || "";
  form.hidden = token === "";
  if (token === "") {
    say("This link is not complete. Please open the whole link from the mail, or copy all of it.", true);
  } else {
    say("", false);
  }
}

function say(text, failed) {
  message.className = failed ? "failed" : "";
  message.textContent = text;
}

function sayOfPassword(text) {
  passwordError.textContent = text;
  password.setAttribute("aria-invalid", text === "" ? "false" : "true");
  if (text !== "") {
    password.focus();
  }
}

function end(heading, text, failed) {
  form.hidden = true;
  title.textContent = heading;
  document.title = heading;
  say(text, failed);
  message.focus();
}

async function send() {
  const body = { token };
  if (password) {
    body.new_password = password.value;
  }
  const answer = await fetch(document.body.dataset.action, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT),
  });
  if (answer.status === 204) {
    // The secret has been used up, so it need not stay in the browser's history.
    history.replaceState(null, "", location.pathname);
    end(message.dataset.doneTitle, message.dataset.done, false);
    return;
  }
  const problem = await answer.json().catch(() => ({}));
  const faults = Array.isArray(problem.errors) ? problem.errors : [];
  const ofPassword = password ? faults.filter((fault) => fault.pointer === "/new_password") : [];
  const wait = Number(answer.headers.get("Retry-After"));
  const later = wait > 0 ? `in ${wait} ${wait === 1 ? "second" : "seconds"}` : "in a moment";
  if (ofPassword.length > 0) {
    sayOfPassword(ofPassword.map((fault) => `The password ${fault.detail}.`).join(" "));
  } else if (problem.code === "email_already_registered") {
    end("This address is taken", "Another account has been given this address in the meantime.", true);
  } else if (answer.status === 400) {
    end(
      "This link does not work any more",
      "It was used already, is too old, or a newer change has replaced it. Please ask for another one.",
      true,
    );
  } else if (answer.status === 429 || answer.status === 503) {
    say(`The service is busy. Nothing has been changed; please try again ${later}.`, true);
  } else {
    say("That did not work. Please try again in a moment.", true);
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy) {
    return;
  }
  say("", false);
  if (password) {
    sayOfPassword("");
    if (password.value === "") {
      sayOfPassword("Please enter a new password.");
      return;
    }
  }
  busy = true;
  submit.setAttribute("aria-disabled", "true");
  say("One moment…", false);
  try {
    await send();
    if (message.textContent === "One moment…") {
      say("", false);
    }
  } catch {
    say("The service could not be reached. Please check your connection and try again.", true);
  } finally {
    busy = false;
    submit.removeAttribute("aria-disabled");
  }
});

if (show) {
  show.addEventListener("click", () => {
    const visible = password.type === "password";
    password.type = visible ? "text" : "password";
    show.textContent = visible ? "Hide" : "Show";
    show.setAttribute("aria-pressed", String(visible));
  });
}

// Opening another link in the same tab only changes the fragment, which does not reload the page.
window.addEventListener("hashchange", () => location.reload());
begin();
