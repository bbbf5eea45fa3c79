"use strict";

// Who the page sends its requests as: shows the access token's owner, and takes and gives the token.

/** The claims of a token, for showing only: the service checks them. `null` if it is no token. */
function claimsOf(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims.exp === "number" ? claims : null;
  } catch {
    return null;
  }
}

/**
 * The line above the document. `ui` is the interface, `scheme` that of access tokens. `tokenPage` is where
 * people get one: `undefined` if it is here, `null` if nobody knows.
 */
class Access {
  constructor(ui, scheme, tokenPage) {
    const byId = (name) => document.getElementById(`access-${name}`);
    Object.assign(this, { ui, scheme, tokenPage, shown: null });
    this.parts = { state: byId("state"), form: byId("form"), input: byId("token"), copy: byId("copy"), forget: byId("forget") };
    const { form, input, copy, forget } = this.parts;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const token = input.value.trim().replace(/^Bearer +/i, "");
      if (claimsOf(token)) this.use(token);
      else this.say("That is no access token: three parts with dots between them are one.");
      input.value = "";
    });
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(this.token() ?? "");
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy access token"), 2000);
    });
    forget.addEventListener("click", () => ui.authActions.logoutWithPersistOption([scheme.name]));
    // Pages of other machines without TLS have no clipboard.
    this.canCopy = Boolean(navigator.clipboard);
    ui.getStore().subscribe(() => this.show());
    document.getElementById("access").hidden = false;
    this.show();
  }

  token() {
    return this.ui.authSelectors.authorized()?.getIn([this.scheme.name, "value"]);
  }

  use(token) {
    const { name, schema } = this.scheme;
    // As "Authorize" does: with what `persistAuthorization` asks for, so that the token survives a reload.
    this.ui.authActions.authorizeWithPersistOption({ [name]: { name, schema, value: token } });
  }

  say(...parts) {
    this.parts.state.replaceChildren(...parts);
  }

  show() {
    const token = this.token();
    if (token === this.shown) return;
    this.shown = token;
    const { form, copy, forget } = this.parts;
    const isIssuer = this.tokenPage === undefined;
    form.hidden = isIssuer || Boolean(token);
    copy.hidden = !token || !isIssuer || !this.canCopy;
    forget.hidden = !token;
    if (token) this.showOwner(claimsOf(token));
    else if (isIssuer) this.say("Not logged in. Send Register and then Log in: their examples work as they are.");
    else this.askForToken();
  }

  showOwner(claims) {
    if (!claims) return this.say("Requests carry a token that this page cannot read.");
    const owner = document.createElement("strong");
    owner.textContent = String(claims.email ?? claims.sub);
    const until = new Date(claims.exp * 1000);
    if (until <= new Date()) return this.say("The access token of ", owner, " has expired.");
    this.say("Requests are sent as ", owner, ", until ", until.toLocaleTimeString(), ".");
  }

  askForToken() {
    if (!this.tokenPage) return this.say("Paste an access token of the auth service here.");
    const link = document.createElement("a");
    link.href = this.tokenPage;
    link.textContent = this.tokenPage;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    this.say("Log in at ", link, ", copy the access token, and paste it here.");
  }
}
