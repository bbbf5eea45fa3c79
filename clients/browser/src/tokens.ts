/** What is kept while somebody is signed in. */
export interface Tokens {
  access_token: string;
  refresh_token?: string;
}

/**
 * Where tokens are kept. Any script of a page can read what the page can read, so this is a choice between
 * what survives a reload and what a script that should not be there gets hold of.
 */
export interface TokenStore {
  get(): Tokens | null | Promise<Tokens | null>;
  /** `null`: forget them. */
  set(tokens: Tokens | null): void | Promise<void>;
  /**
   * A name for the Web Locks API, where several tabs share the store: then one of them refreshes at a time,
   * and the others use what it got.
   */
  readonly lock?: string;
}

/** Keeps tokens in memory: a reload of the page signs out, and no other tab is signed in. */
export function memoryStore(): TokenStore {
  let kept: Tokens | null = null;
  return {
    get: () => kept,
    set: (tokens) => {
      kept = tokens;
    },
  };
}

/**
 * Keeps tokens in `sessionStorage`, where they survive a reload, or in `localStorage`, where all tabs share
 * them and they survive the browser's end.
 */
export function webStore(storage: Storage, key = "latchkey"): TokenStore {
  return {
    lock: `${key}.refresh`,
    get: () => read(storage.getItem(key)),
    set: (tokens) => {
      if (tokens) storage.setItem(key, JSON.stringify(tokens));
      else storage.removeItem(key);
    },
  };
}

/** What cannot be read was not written by us, and counts as nothing. */
function read(text: string | null): Tokens | null {
  try {
    const value: unknown = JSON.parse(text ?? "null");
    return isTokens(value) ? value : null;
  } catch {
    return null;
  }
}

function isTokens(value: unknown): value is Tokens {
  if (typeof value !== "object" || value === null) return false;
  const { access_token, refresh_token } = value as Partial<Tokens>;
  return typeof access_token === "string" && ["string", "undefined"].includes(typeof refresh_token);
}
