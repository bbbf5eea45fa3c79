export { FIELD_CODES, PROBLEM_CODES } from "../gen/codes.js";
export { type CallOptions, type ChangeOptions, Latchkey, type Options, secretFromLink } from "./client.js";
export {
  type Code,
  type Fault,
  type FieldCode,
  NotSignedInError,
  ProblemError,
  UnexpectedAnswerError,
  UnreachableError,
} from "./errors.js";
export type { Account, Profile, ProfilePage, Session, VersionedProfile } from "./records.js";
export { memoryStore, type Tokens, type TokenStore, webStore } from "./tokens.js";
