import { NotSignedInError, ProblemError } from "./errors.js";
import type { TokenAnswer } from "./records.js";
import type { Tokens, TokenStore } from "./tokens.js";
import type { Transport } from "./transport.js";

/** Refusals of an access token that a new one may cure. */
const CURABLE = new Set<string>(["token_expired", "token_revoked", "invalid_token"]);

/** Who is signed in: holds the tokens, and renews them. */
export class Tokenholder {
  readonly #transport: Transport;
  readonly #authUrl: URL;
  readonly #store: TokenStore;
  readonly #onSignedOut: () => void;
  #refreshing: Promise<string> | undefined;

  constructor(transport: Transport, authUrl: URL, store: TokenStore, onSignedOut: () => void) {
    this.#transport = transport;
    this.#authUrl = authUrl;
    this.#store = store;
    this.#onSignedOut = onSignedOut;
  }

  async held(): Promise<Tokens | null> {
    return this.#store.get();
  }

  /** Keeps the tokens of an answer. One without a refresh token leaves that as it is. */
  async keep(answer: TokenAnswer, before: Tokens | null = null): Promise<void> {
    const refresh = answer.refresh_token ?? before?.refresh_token;
    const tokens: Tokens = { access_token: answer.access_token };
    if (refresh !== undefined) tokens.refresh_token = refresh;
    await this.#store.set(tokens);
  }

  async forget(): Promise<void> {
    await this.#store.set(null);
  }

  /**
   * Makes a request with the access token. If that is refused, gets a new one and makes the request once
   * more: what was refused with 401 has not been carried out.
   */
  async authorised<T>(send: (token: string) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const held = await this.held();
    if (!held) throw new NotSignedInError("nobody is signed in");
    try {
      return await send(held.access_token);
    } catch (error) {
      if (!(error instanceof ProblemError) || error.status !== 401) throw error;
      if (error.code === "account_deleted") return await this.#signedOut("the account was deleted", error);
      if (!CURABLE.has(error.code)) throw error;
      return await send(await this.refresh(held.access_token, signal));
    }
  }

  /**
   * A new access token in place of one that is refused, or of the one that is held. Calls that come together
   * share one request, and so do tabs that share a store. The signal ends the waiting, and not the request
   * that others wait for too.
   */
  async refresh(stale?: string, signal?: AbortSignal): Promise<string> {
    signal?.throwIfAborted();
    this.#refreshing ??= this.#exclusively(() => this.#exchange(stale)).finally(() => {
      this.#refreshing = undefined;
    });
    return until(this.#refreshing, signal);
  }

  async #exchange(stale: string | undefined): Promise<string> {
    const held = await this.held();
    if (!held) throw new NotSignedInError("nobody is signed in");
    // Another tab, or a call before this one, was faster.
    if (stale !== undefined && held.access_token !== stale) return held.access_token;
    const { refresh_token } = held;
    if (refresh_token === undefined) return this.#signedOut("the access token is over, and there is no refresh token");
    let answer: TokenAnswer;
    try {
      const url = new URL("auth/refresh", this.#authUrl);
      answer = await this.#transport.json<TokenAnswer>({ method: "POST", url, body: { refresh_token } });
    } catch (error) {
      // Anything else, such as an answer that was lost, leaves the refresh token good.
      if (!(error instanceof ProblemError) || error.status !== 401) throw error;
      // Somebody may have logged in anew while this was on its way.
      const now = await this.held();
      if (now && now.refresh_token !== refresh_token) return now.access_token;
      return this.#signedOut("the session has ended", error);
    }
    const now = await this.held();
    if (now?.refresh_token === refresh_token) {
      await this.keep(answer, held);
      return answer.access_token;
    }
    // A logout or another login came in between, and is not undone.
    if (!now) throw new NotSignedInError("signed out meanwhile");
    return now.access_token;
  }

  async #signedOut(message: string, cause?: ProblemError): Promise<never> {
    await this.forget();
    this.#onSignedOut();
    throw new NotSignedInError(message, { cause });
  }

  /**
   * Under the lock of the store, where it has one and the browser has the Web Locks API. A tab may be frozen
   * while it holds the lock, so nobody waits for ever: the service answers two tabs that refresh together with
   * one and the same token.
   */
  async #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const locks = globalThis.navigator?.locks as LockManager | undefined;
    if (!locks || this.#store.lock === undefined) return work();
    let granted = false;
    try {
      return await locks.request(this.#store.lock, { signal: AbortSignal.timeout(this.#transport.timeout) }, () => {
        granted = true;
        return work();
      });
    } catch (error) {
      if (granted || !(error instanceof DOMException) || error.name !== "TimeoutError") throw error;
      return work();
    }
  }
}

/** The result, unless the signal comes first. */
function until<T>(result: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return result;
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    result.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
