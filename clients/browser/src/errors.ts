import { type FIELD_CODES, type PROBLEM_CODES } from "../gen/codes.js";

/**
 * The stable name of an error: one of docs/errors.md, or one that a newer service has and this client does
 * not know. Editors offer the known ones.
 */
export type Code = (typeof PROBLEM_CODES)[number] | (string & {});

/** The stable name of a rule that a member of the input breaks. */
export type FieldCode = (typeof FIELD_CODES)[number] | (string & {});

/** One fault of the input. */
export interface Fault {
  /** Where: a JSON pointer (RFC 6901) into the body, such as `/email`. */
  pointer: string;
  code: FieldCode;
  /** The rule, for people. The text may change. */
  detail: string;
}

/** The service refused the request, and said why in a problem document (RFC 9457). */
export class ProblemError extends Error {
  override readonly name = "ProblemError";
  /** The HTTP status. */
  readonly status: number;
  /** What to decide by. */
  readonly code: Code;
  /** What is wrong with this request, for people. The text may change. */
  readonly detail: string;
  /** Under this id the service's log has the request. */
  readonly requestId: string | undefined;
  /** All faults of the input, if the code is `validation_failed`. */
  readonly faults: readonly Fault[];
  /** How long to wait before another try, in seconds, if the service says so. */
  readonly retryAfter: number | undefined;

  constructor(status: number, problem: Problem, retryAfter: number | undefined) {
    super(`${problem.code}: ${problem.detail}`);
    this.status = status;
    this.code = problem.code;
    this.detail = problem.detail;
    this.requestId = problem.request_id;
    this.faults = problem.errors ?? [];
    this.retryAfter = retryAfter;
  }
}

/** There is nobody to make this request as: somebody has to log in first, or again. */
export class NotSignedInError extends Error {
  override readonly name = "NotSignedInError";
}

/**
 * No answer: the network is down, the service is away, or it does not allow this page's origin
 * (`CORS_ALLOWED_ORIGINS`). A browser does not tell a page which of these it was. The request may have been
 * carried out.
 */
export class UnreachableError extends Error {
  override readonly name = "UnreachableError";
}

/** An answer that is not the service's, such as the error page of a proxy on the way. */
export class UnexpectedAnswerError extends Error {
  override readonly name = "UnexpectedAnswerError";
  /** The HTTP status. */
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The members of a problem document that this client reads. */
interface Problem {
  code: string;
  detail: string;
  request_id?: string;
  errors?: Fault[];
}

/** The error that an answer with a status of 400 or more stands for. */
export async function errorOf(answer: Response): Promise<ProblemError | UnexpectedAnswerError> {
  const { status, headers } = answer;
  const problem: unknown = await answer.json().catch(() => undefined);
  if (!isProblem(problem)) {
    return new UnexpectedAnswerError(status, `status ${status} without a problem document`);
  }
  const seconds = Number(headers.get("retry-after") ?? NaN);
  return new ProblemError(status, problem, Number.isFinite(seconds) ? seconds : undefined);
}

function isProblem(value: unknown): value is Problem {
  if (typeof value !== "object" || value === null) return false;
  const { code, detail, errors = [] } = value as Partial<Problem>;
  return typeof code === "string" && typeof detail === "string" && Array.isArray(errors);
}
