import { createHash } from "node:crypto";

import { jsonObject } from "./json.js";

const MAX_REVOCATIONS = 1_000_000;
const MAX_PAGE_BYTES = 4 * 1024 * 1024;
/** More than a full list has, at one time. */
const MAX_PAGES = 1000;
const MAX_CURSOR_BYTES = 1024;
const POLL_MS = 2_000;
const MIN_BACK_OFF_MS = 250;
const MAX_BACK_OFF_MS = 3_000;

/** Ends the tokens of a generation below this one, until its end. */
interface Revocation {
  below: number;
  until: number;
}

interface Entry extends Revocation {
  kind: "session" | "account";
  digest: string;
}

/** One answer of `GET /.well-known/revocations`. */
export interface RevocationPage {
  reset: boolean;
  more: boolean;
  cursor: string;
  entries: Entry[];
}

/** The answer is not a page of revocations. */
export class NotAPage extends Error {}

const DIGEST = /^[A-Za-z0-9_-]{43}$/;

/** Reads the body of an answer. Entries of a kind that is not known here are passed over. */
export function readPage(text: Uint8Array): RevocationPage {
  let body: Record<string, unknown>;
  try {
    body = jsonObject(text);
  } catch {
    throw new NotAPage("not one JSON object");
  }
  const { reset, more, cursor, entries } = body;
  if (
    typeof reset !== "boolean" ||
    typeof more !== "boolean" ||
    typeof cursor !== "string" ||
    Buffer.byteLength(cursor) > MAX_CURSOR_BYTES ||
    !Array.isArray(entries)
  ) {
    throw new NotAPage("a member is missing or of another type");
  }
  return { reset, more, cursor, entries: entries.flatMap(readEntry) };
}

function readEntry(entry: unknown): Entry[] {
  if (typeof entry !== "object" || entry === null) throw new NotAPage("an entry is no object");
  const { session, account, generation, until } = entry as Record<string, unknown>;
  if (session === undefined && account === undefined) return [];
  const isSession = account === undefined;
  const digest = session ?? account;
  // A session's entry ends tokens of every generation.
  const below = isSession ? Infinity : generation;
  const isSound =
    (session === undefined) !== (account === undefined) &&
    (isSession ? generation === undefined : Number.isInteger(generation) && (generation as number) >= 0) &&
    typeof digest === "string" &&
    DIGEST.test(digest) &&
    Buffer.from(digest, "base64url").toString("base64url") === digest &&
    Number.isInteger(until);
  if (!isSound) throw new NotAPage("an entry is malformed");
  return [
    { kind: isSession ? "session" : "account", digest: digest as string, below: below as number, until: until as number },
  ];
}

type Known = Map<string, Revocation>;

/** What a list is asked about a token. */
export interface Revocable {
  sub: string;
  sid?: string;
  gen: number;
}

/**
 * What is known to be revoked. `followRevocations` fills it; whoever gets the pages in another way hands them
 * to `apply`. `leeway` is how many seconds an entry counts beyond its end: the `expLeeway` of the rules.
 */
export class RevocationList {
  cursor = "";
  #known: Known = new Map();
  #incoming: Known | undefined;
  #completed: number | undefined;

  constructor(
    readonly leeway = 0,
    readonly clock = (): number => Math.floor(Date.now() / 1000),
  ) {}

  /**
   * Takes the next page. The pages from one with `reset` to one without `more` replace what is known, all at
   * once; every other page adds to it.
   */
  apply({ reset, more, cursor, entries }: RevocationPage): void {
    const replaces = reset || this.#incoming !== undefined;
    const known: Known = this.#incoming ?? (reset ? new Map() : new Map(this.#known));
    this.#incoming = undefined;
    const passed = this.clock() - this.leeway;
    for (const [key, { until }] of known) if (until <= passed) known.delete(key);
    for (const { kind, digest, below, until } of entries) {
      const key = `${kind} ${digest}`;
      const other = known.get(key);
      // Two entries for one account say what either says.
      known.set(key, {
        below: Math.max(below, other?.below ?? 0),
        until: Math.max(until, other?.until ?? until),
      });
    }
    if (known.size > MAX_REVOCATIONS) {
      if (replaces) this.cursor = "";
      throw new Error("the list of revocations is too long");
    }
    this.cursor = cursor;
    if (replaces && more) this.#incoming = known;
    else this.#known = known;
    if (!more) this.confirm();
  }

  /** Notes that nothing has changed. */
  confirm(): void {
    this.#completed = performance.now();
  }

  /** Seconds since the list was last known to be complete; undefined if it never was. */
  get age(): number | undefined {
    return this.#completed === undefined ? undefined : (performance.now() - this.#completed) / 1000;
  }

  /** Whether the session is listed, or the account with a generation above the token's. */
  revokes({ sub, sid, gen }: Revocable): boolean {
    const now = this.clock() - this.leeway;
    const counts = (kind: Entry["kind"], id: string): boolean => {
      const entry = this.#known.get(`${kind} ${createHash("sha256").update(id).digest("base64url")}`);
      return entry !== undefined && gen < entry.below && entry.until > now;
    };
    return (sid !== undefined && counts("session", sid)) || counts("account", sub);
  }
}

/**
 * Keeps a list current from a URL until the signal aborts. While the auth service is away, what is known goes
 * on counting.
 */
export function followRevocations(url: URL, list: RevocationList, signal?: AbortSignal): void {
  let tag: { cursor: string; value: string } | undefined;
  let failures = 0;

  /** The page after a cursor; undefined where nothing has changed. */
  const get = async (cursor: string): Promise<RevocationPage | undefined> => {
    const address = new URL(url);
    if (cursor !== "") address.searchParams.set("after", cursor);
    const known = tag?.cursor === cursor ? tag : undefined;
    tag = undefined;
    const timeout = AbortSignal.timeout(POLL_MS);
    const response = await fetch(address, {
      redirect: "error",
      headers: known === undefined ? {} : { "if-none-match": known.value },
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
    if (response.status === 304 && known !== undefined) {
      tag = known;
      return undefined;
    }
    if (response.status !== 200) {
      await response.body?.cancel();
      throw new Error(`status ${response.status}`);
    }
    const page = readPage(await bounded(response));
    const value = response.headers.get("etag");
    // A page that leads on, or that begins again, is read whole the next time.
    if (value !== null && !page.more && !page.reset) tag = { cursor, value };
    return page;
  };

  const catchUp = async (): Promise<void> => {
    for (let pages = 0; pages < MAX_PAGES; pages++) {
      const { cursor } = list;
      const page = await get(cursor);
      if (page === undefined) return list.confirm();
      if (page.more && page.cursor === cursor) break;
      try {
        list.apply(page);
      } catch (error) {
        tag = undefined;
        throw error;
      }
      if (!page.more) return;
    }
    throw new NotAPage("the pages have no end");
  };

  const follow = async (): Promise<void> => {
    let pause = POLL_MS;
    try {
      await catchUp();
      failures = 0;
    } catch (error) {
      if (signal?.aborted) return;
      if (failures === 0) console.warn("cannot read the list of revocations:", error);
      pause = Math.min(MIN_BACK_OFF_MS * 2 ** Math.min(failures++, 10), MAX_BACK_OFF_MS);
    }
    // Without jitter, replicas that started together would ask together. Nobody stays alive for this.
    if (!signal?.aborted) setTimeout(() => void follow(), pause * (1 - 0.1 * Math.random())).unref();
  };
  void follow();
}

async function bounded(response: Response): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of response.body ?? []) {
    size += part.byteLength;
    if (size > MAX_PAGE_BYTES) throw new NotAPage("the page is too large");
    parts.push(part);
  }
  return Buffer.concat(parts);
}
