import { env } from "node:process";

/** A test without its service proves nothing, so a missing address fails it. */
function required(name: string): string {
  const value = env[name];
  if (!value) throw new Error(`${name} is not set: see clients/README.md`);
  return value;
}

export const authGrpc = (): string => required("AUTH_GRPC");
export const userGrpc = (): string => required("USER_GRPC");
export const jwksUrl = (): URL => new URL("/.well-known/jwks.json", required("AUTH_HTTP"));
export const vectorsFile = (): string => required("VECTORS");

/** Whose tokens the services under test issue, and for whom. */
export const issuer = "http://localhost:3000";
export const audience = "latchkey";
