import { errorOf, UnexpectedAnswerError, UnreachableError } from "./errors.js";

/** One request. */
export interface Call {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  url: URL;
  /** Sent as JSON. */
  body?: object;
  /** The access token. It travels in the Authorization field, never in the URL. */
  token?: string | undefined;
  /** Only this version of the resource is changed (RFC 9110, section 13.1.1). */
  ifMatch?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** Sends requests and tells answers from errors. */
export class Transport {
  readonly #fetch: typeof fetch;
  /** How long a request may take, in milliseconds. */
  readonly timeout: number;

  constructor(send: typeof fetch, timeout: number) {
    // A browser's fetch must be called on nothing else than the window.
    this.#fetch = (input, init) => send(input, init);
    this.timeout = timeout;
  }

  /**
   * The answer, if its status is below 400.
   *
   * @throws {ProblemError | UnexpectedAnswerError | UnreachableError} and, where the signal or the time-out
   *   ended the request, their reason.
   */
  async send({ method, url, body, token, ifMatch, signal }: Call): Promise<Response> {
    const headers = new Headers();
    if (body) headers.set("content-type", "application/json");
    if (token !== undefined) headers.set("authorization", `Bearer ${token}`);
    if (ifMatch !== undefined) headers.set("if-match", ifMatch);
    const timeout = AbortSignal.timeout(this.timeout);
    const ends = signal ? AbortSignal.any([signal, timeout]) : timeout;
    let answer: Response;
    try {
      answer = await this.#fetch(url, {
        method,
        headers,
        body: body ? JSON.stringify(body) : null,
        // There are no cookies to send, and no answer is to be kept or found elsewhere.
        credentials: "omit",
        cache: "no-store",
        redirect: "error",
        referrerPolicy: "no-referrer",
        signal: ends,
      });
      if (answer.status >= 400) throw await errorOf(answer);
    } catch (error) {
      ends.throwIfAborted();
      if (!(error instanceof TypeError)) throw error;
      throw new UnreachableError(`no answer from ${url.origin}`, { cause: error });
    }
    return answer;
  }

  /** The body of the answer, which must be JSON. */
  async json<T>(call: Call): Promise<T> {
    return jsonOf<T>(await this.send(call));
  }
}

/** The body of an answer. Its form is the service's promise, so only its syntax is checked. */
export async function jsonOf<T>(answer: Response): Promise<T> {
  try {
    return (await answer.json()) as T;
  } catch (error) {
    if (error instanceof SyntaxError) throw new UnexpectedAnswerError(answer.status, "the answer is not JSON");
    if (error instanceof TypeError) throw new UnreachableError("the answer broke off", { cause: error });
    throw error;
  }
}
