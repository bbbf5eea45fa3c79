import type { Account, Profile, ProfilePage, Session, TokenAnswer, VersionedProfile } from "./records.js";
import { Tokenholder } from "./session.js";
import { memoryStore, type TokenStore } from "./tokens.js";
import { type Call, jsonOf, Transport } from "./transport.js";

/** Where the services are, and how to reach them. */
export interface Options {
  /** The REST edge of the auth service, such as `https://auth.example.com`. A path before `/auth` is kept. */
  authUrl: string | URL;
  /** The REST edge of the user service. */
  userUrl: string | URL;
  /** Where tokens are kept. Default: in memory. */
  tokens?: TokenStore;
  /** How long a request may take, in milliseconds. Default: 30,000, as long as the service takes at most. */
  timeout?: number;
  /** Called when a session turns out to have ended, so that the page can ask for a login. */
  onSignedOut?: () => void;
  /** What sends the requests. Default: the browser's `fetch`. */
  fetch?: typeof fetch;
}

/** What every request takes. */
export interface CallOptions {
  /** Ends the request; it may have been carried out. */
  signal?: AbortSignal;
}

/** What a change takes. */
export interface ChangeOptions extends CallOptions {
  /** The version that was read. If it is not the current one: `precondition_failed`. */
  etag?: string;
}

/**
 * A client of both services. Every method throws a `ProblemError` where the service refuses, an
 * `UnreachableError` where there is no answer, and those that need an access token a `NotSignedInError` where
 * somebody has to log in first.
 */
export class Latchkey {
  readonly #transport: Transport;
  readonly #authUrl: URL;
  readonly #userUrl: URL;
  readonly #holder: Tokenholder;

  constructor({ authUrl, userUrl, tokens = memoryStore(), timeout = 30_000, ...rest }: Options) {
    this.#authUrl = base(authUrl);
    this.#userUrl = base(userUrl);
    this.#transport = new Transport(rest.fetch ?? globalThis.fetch, timeout);
    this.#holder = new Tokenholder(this.#transport, this.#authUrl, tokens, rest.onSignedOut ?? (() => {}));
  }

  /** Whether tokens are held. The next request tells whether they are still good. */
  async isSignedIn(): Promise<boolean> {
    return (await this.#holder.held()) !== null;
  }

  /** Makes an account. It does not log in. */
  async register(who: { email: string; password: string }, options: CallOptions = {}): Promise<Account> {
    return this.#transport.json<Account>(this.#auth("POST", "auth/register", who, options));
  }

  /** Logs in, and keeps the tokens. `stay: false` gets no refresh token: it ends with the access token. */
  async login(
    { stay = true, ...who }: { email: string; password: string; stay?: boolean },
    options: CallOptions = {},
  ): Promise<void> {
    const body = { ...who, offline_access: stay };
    await this.#holder.keep(await this.#transport.json<TokenAnswer>(this.#auth("POST", "auth/login", body, options)));
  }

  /** Gets a new access token. Requests do this by themselves when theirs is refused. */
  async refresh({ signal }: CallOptions = {}): Promise<void> {
    await this.#holder.refresh(undefined, signal);
  }

  /**
   * Logs out: forgets the tokens, and ends the session. If it throws, the tokens are forgotten all the same,
   * and the session ends when its time is over.
   */
  async logout(options: CallOptions = {}): Promise<void> {
    const held = await this.#holder.held();
    await this.#holder.forget();
    if (held?.refresh_token === undefined) return;
    const body = { refresh_token: held.refresh_token };
    await this.#transport.send(this.#auth("POST", "auth/logout", body, options));
  }

  /** The sessions of the account, the one that was used last first. */
  async sessions(options: CallOptions = {}): Promise<Session[]> {
    const answer = await this.#authorised(this.#auth("GET", "auth/sessions", undefined, options));
    return (await jsonOf<{ sessions: Session[] }>(answer)).sessions;
  }

  /** Ends a session of the account. */
  async endSession(id: string, options: CallOptions = {}): Promise<void> {
    await this.#authorised(this.#auth("DELETE", `auth/sessions/${encodeURIComponent(id)}`, undefined, options));
  }

  /** Ends every session and access token of the account, this one's too. */
  async endAllSessions(options: CallOptions = {}): Promise<void> {
    await this.#authorised(this.#auth("DELETE", "auth/sessions", undefined, options));
    await this.#holder.forget();
  }

  /** Changes the password. All other sessions end. */
  async changePassword(
    change: { current_password: string; new_password: string },
    options: CallOptions = {},
  ): Promise<void> {
    const answer = await this.#authorised(this.#auth("PUT", "auth/password", change, options));
    const fresh = await jsonOf<TokenAnswer>(answer);
    const held = await this.#holder.held();
    if (held) await this.#holder.keep(fresh, held);
  }

  /** Has a link sent to the address, if it has an account; the answer does not tell. */
  async forgotPassword(email: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.send(this.#auth("POST", "auth/password/forgot", { email }, options));
  }

  /** Sets the password by the secret of a link (`secretFromLink`). All sessions end. */
  async resetPassword(link: { token: string; new_password: string }, options: CallOptions = {}): Promise<void> {
    await this.#transport.send(this.#auth("POST", "auth/password/reset", link, options));
  }

  /** Has the link to confirm the address sent again, if there is something to confirm. */
  async sendVerification(email: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.send(this.#auth("POST", "auth/email/verification", { email }, options));
  }

  /** Confirms an address by the secret of a link (`secretFromLink`). */
  async verifyEmail(token: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.send(this.#auth("POST", "auth/email/verify", { token }, options));
  }

  /** Begins a change of the email, which takes effect once the new address has been confirmed. */
  async changeEmail(change: { email: string; current_password: string }, options: CallOptions = {}): Promise<void> {
    await this.#authorised(this.#auth("PUT", "auth/email", change, options));
  }

  /** Deletes the account, and with it the profile. */
  async deleteAccount(current_password: string, options: CallOptions = {}): Promise<void> {
    await this.#authorised(this.#auth("POST", "auth/account/delete", { current_password }, options));
    await this.#holder.forget();
  }

  /** A profile: one's own, or that of this account. */
  async profile(id = "me", options: CallOptions = {}): Promise<VersionedProfile> {
    return versioned(await this.#authorised(this.#user("GET", `users/${encodeURIComponent(id)}`, undefined, options)));
  }

  /** A page of the profiles. */
  async profiles(
    { page_size, page_token, ...options }: CallOptions & { page_size?: number; page_token?: string } = {},
  ): Promise<ProfilePage> {
    const call = this.#user("GET", "users", undefined, options);
    if (page_size !== undefined) call.url.searchParams.set("page_size", String(page_size));
    if (page_token !== undefined) call.url.searchParams.set("page_token", page_token);
    return jsonOf<ProfilePage>(await this.#authorised(call));
  }

  /** Replaces the name and the bio of one's own profile. Without a bio it is cleared. */
  async replaceProfile(
    profile: { name: string; bio?: string },
    options: ChangeOptions = {},
  ): Promise<VersionedProfile> {
    return versioned(await this.#authorised(this.#user("PUT", "users/me", profile, options)));
  }

  /** Changes what is given of one's own profile, and leaves the rest (RFC 7396). */
  async updateProfile(
    patch: { name?: string; bio?: string | null },
    options: ChangeOptions = {},
  ): Promise<VersionedProfile> {
    return versioned(await this.#authorised(this.#user("PATCH", "users/me", patch, options)));
  }

  /** Deletes one's own profile, and with it the account. */
  async deleteProfile(options: ChangeOptions = {}): Promise<void> {
    await this.#authorised(this.#user("DELETE", "users/me", undefined, options));
    await this.#holder.forget();
  }

  #auth(method: Call["method"], path: string, body: object | undefined, options: CallOptions): Call {
    return call(method, new URL(path, this.#authUrl), body, options);
  }

  #user(method: Call["method"], path: string, body: object | undefined, options: ChangeOptions): Call {
    return call(method, new URL(path, this.#userUrl), body, options);
  }

  #authorised(request: Call): Promise<Response> {
    return this.#holder.authorised((token) => this.#transport.send({ ...request, token }), request.signal);
  }
}

function call(method: Call["method"], url: URL, body: object | undefined, options: ChangeOptions): Call {
  const request: Call = { method, url, signal: options.signal, ifMatch: options.etag };
  if (body) request.body = body;
  return request;
}

/** Paths are resolved against it, so its own path ends with a slash. */
function base(url: string | URL): URL {
  const result = new URL(url);
  if (!["https:", "http:"].includes(result.protocol)) throw new TypeError(`${result.href} is not an HTTP URL`);
  result.search = "";
  result.hash = "";
  if (!result.pathname.endsWith("/")) result.pathname += "/";
  return result;
}

async function versioned(answer: Response): Promise<VersionedProfile> {
  return { etag: answer.headers.get("etag") ?? "", profile: await jsonOf<Profile>(answer) };
}

/**
 * The secret of a link from a mail, on the page that `PASSWORD_RESET_URL` or `EMAIL_VERIFICATION_URL` names;
 * `null` if there is none. It is in the fragment of the address, which browsers send to nobody, and is taken
 * out of it, so that it stays neither in view nor in the history.
 */
export function secretFromLink(): string | null {
  const secret = new URLSearchParams(location.hash.slice(1)).get("token");
  if (secret !== null) history.replaceState(history.state, "", location.pathname + location.search);
  return secret;
}
