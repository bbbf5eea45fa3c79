// Signs up, signs in, shows and edits the profile, signs out.

import { Latchkey, NotSignedInError, ProblemError, UnreachableError, type VersionedProfile, webStore } from "../src/index.js";

function byId<T extends HTMLElement>(id: string, type: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`the page has no ${id}`);
  return element;
}

const entry = byId("entry", HTMLFormElement);
const profile = byId("profile", HTMLFormElement);
const email = byId("email", HTMLElement);
const message = byId("message", HTMLElement);

const { authUrl = "", userUrl = "" } = document.body.dataset;
const latchkey = new Latchkey({
  authUrl,
  userUrl,
  // Signed in in all tabs and after a reload. README.md says what this costs, and what else there is.
  tokens: webStore(localStorage),
});

/** The version that the form shows. */
let shown: VersionedProfile | undefined;

function say(text: string, failed = false): void {
  message.textContent = text;
  message.className = failed ? "failed" : "";
}

/** The value of a member of a form. */
function value(form: HTMLFormElement, name: string): string {
  return String(new FormData(form).get(name) ?? "");
}

function fill(form: HTMLFormElement, name: string, text: string): void {
  const field = form.elements.namedItem(name);
  if (field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement) field.value = text;
}

function clearFaults(): void {
  for (const place of document.querySelectorAll(".fault")) place.textContent = "";
}

function askToSignIn(): void {
  shown = undefined;
  profile.hidden = true;
  entry.hidden = false;
}

function show(version: VersionedProfile): void {
  shown = version;
  email.textContent = version.profile.email ?? "";
  fill(profile, "name", version.profile.name);
  fill(profile, "bio", version.profile.bio);
  fill(entry, "password", "");
  entry.hidden = true;
  profile.hidden = false;
}

/** Every error of the client, in words for people. */
async function explain(error: unknown): Promise<void> {
  if (error instanceof NotSignedInError) {
    askToSignIn();
    return say("Please sign in.", true);
  }
  if (error instanceof UnreachableError) return say("The service cannot be reached. Try again in a moment.", true);
  if (!(error instanceof ProblemError)) throw error;
  switch (error.code) {
    case "validation_failed":
      for (const { pointer, detail } of error.faults) {
        const place = document.querySelector(`form:not([hidden]) .fault[data-for="${CSS.escape(pointer)}"]`);
        if (place) place.textContent = `It ${detail}.`;
      }
      return say("Please correct what is marked.", true);
    case "invalid_credentials":
      return say("The email or the password is wrong.", true);
    case "email_already_registered":
      return say("This email has an account. Sign in instead.", true);
    case "email_not_verified":
      return say("Please follow the link in the mail first.", true);
    case "too_many_attempts":
    case "too_many_requests":
      return say(`Too many attempts. Try again in ${error.retryAfter ?? 60} s.`, true);
    case "precondition_failed":
      show(await latchkey.profile());
      return say("The profile was changed elsewhere in the meantime. This is how it is now.", true);
    default:
      return say(`${error.message} (${error.requestId ?? "no request id"})`, true);
  }
}

const actions: Record<string, () => Promise<void>> = {
  "sign-up": async () => {
    const who = { email: value(entry, "email"), password: value(entry, "password") };
    await latchkey.register(who);
    await latchkey.login(who);
    show(await latchkey.profile());
    say("Welcome. Who are you?");
  },
  "sign-in": async () => {
    await latchkey.login({ email: value(entry, "email"), password: value(entry, "password") });
    show(await latchkey.profile());
    say("Signed in.");
  },
  save: async () => {
    const change = { name: value(profile, "name"), bio: value(profile, "bio") };
    show(await latchkey.replaceProfile(change, shown ? { etag: shown.etag } : {}));
    say("Saved.");
  },
  "sign-out": async () => {
    askToSignIn();
    await latchkey.logout();
    say("Signed out.");
  },
};

async function run(action: () => Promise<void>): Promise<void> {
  clearFaults();
  say("");
  try {
    await action();
  } catch (error) {
    await explain(error);
  }
}

for (const form of [entry, profile]) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = event.submitter instanceof HTMLButtonElement ? event.submitter.value : "";
    const action = actions[button];
    if (action) void run(action);
  });
}

await run(async () => {
  if (await latchkey.isSignedIn()) show(await latchkey.profile());
  else askToSignIn();
});
