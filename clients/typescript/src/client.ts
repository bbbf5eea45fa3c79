import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { AuthService } from "../gen/auth/v1/auth_service_pb.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { Health } from "../gen/grpc/health/v1/health_pb.js";
import { UserService } from "../gen/user/v1/user_service_pb.js";

/** No call may wait for ever: the deadline goes along with the call, and the service keeps it too. */
const DEADLINE_MS = 10_000;

/** The auth service at `host:port`, by gRPC over plaintext HTTP/2. */
export function authService(address: string): { auth: Client<typeof AuthService>; health: Client<typeof Health> } {
  const transport = createGrpcTransport({ baseUrl: `http://${address}`, defaultTimeoutMs: DEADLINE_MS });
  return { auth: createClient(AuthService, transport), health: createClient(Health, transport) };
}

/** The user service at `host:port`. `token` gives the access token of each call. */
export function userService(
  address: string,
  token: () => string,
): { users: Client<typeof UserService>; health: Client<typeof Health> } {
  const bearer: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${token()}`);
    return next(request);
  };
  const options = { baseUrl: `http://${address}`, defaultTimeoutMs: DEADLINE_MS };
  return {
    users: createClient(UserService, createGrpcTransport({ ...options, interceptors: [bearer] })),
    // Health needs no token, and a token goes only where it is needed.
    health: createClient(Health, createGrpcTransport(options)),
  };
}

/** What the details of an error say. */
export interface Failure {
  code: Code;
  /** A stable code of docs/errors.md; decide by it, never by the message. */
  reason: string | undefined;
  /** All faults of the input. */
  faults: { field: string; description: string }[];
  /** How long to wait before another try, in milliseconds. */
  retryAfterMs: number | undefined;
}

/** Reads the google.rpc details of whatever a call has thrown. */
export function failure(thrown: unknown): Failure {
  const error = ConnectError.from(thrown);
  const info = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "latchkey");
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    code: error.code,
    reason: info?.reason,
    faults: error
      .findDetails(BadRequestSchema)
      .flatMap(({ fieldViolations }) => fieldViolations)
      .map(({ field, description }) => ({ field, description })),
    retryAfterMs: delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6,
  };
}
