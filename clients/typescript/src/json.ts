/** Why a text is not one JSON object that means the same to every reader. */
export class JsonError extends Error {
  constructor(readonly reason: "bad_json" | "duplicate_member") {
    super(reason);
  }
}

/** Nesting is bounded, as everywhere where strangers may write. */
const MAX_DEPTH = 127;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads a whole text as one JSON object. `JSON.parse` alone keeps the last of two equal members,
 * where another reader keeps the first: one token would be two.
 */
export function jsonObject(bytes: Uint8Array): Record<string, unknown> {
  try {
    const text = utf8.decode(bytes);
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      assertUnambiguous(text);
      return value as Record<string, unknown>;
    }
  } catch (error) {
    if (error instanceof JsonError) throw error;
  }
  throw new JsonError("bad_json");
}

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\]:,]|[^\s"{}[\]:,]+/g;

/** `text` is JSON already; refuses equal members, half characters and numbers beyond a double. */
function assertUnambiguous(text: string): void {
  // For each open object the names of its members; nothing for an open array.
  const open: (Set<string> | undefined)[] = [];
  let previous = "";
  for (const [token] of text.matchAll(TOKENS)) {
    if (token === "{" || token === "[") {
      if (open.push(token === "{" ? new Set() : undefined) > MAX_DEPTH) throw new JsonError("bad_json");
    } else if (token === "}" || token === "]") {
      open.pop();
    } else if (token === ":") {
      const name = JSON.parse(previous) as string;
      const names = open.at(-1);
      if (names?.has(name)) throw new JsonError("duplicate_member");
      names?.add(name);
    } else if (token.startsWith('"')) {
      if (!(JSON.parse(token) as string).isWellFormed()) throw new JsonError("bad_json");
    } else if (/^[-\d]/.test(token) && !Number.isFinite(Number(token))) {
      throw new JsonError("bad_json");
    }
    previous = token;
  }
}
