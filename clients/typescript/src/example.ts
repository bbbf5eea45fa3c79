// Registers, logs in, reads and changes the profile, and looks at what errors say.
//
//     node build/src/example.js [auth host:port] [user host:port]

import { randomUUID } from "node:crypto";
import { argv } from "node:process";

import { Code } from "@connectrpc/connect";

import { HealthCheckResponse_ServingStatus as ServingStatus } from "../gen/grpc/health/v1/health_pb.js";
import { authService, failure, userService } from "./client.js";

const [authAddress = "localhost:50051", userAddress = "localhost:50052"] = argv.slice(2);

let token = "";
const { auth, health: authHealth } = authService(authAddress);
const { users, health: userHealth } = userService(userAddress, () => token);

// "" asks about the process as a whole, a name about that service.
for (const [health, service] of [
  [authHealth, "auth.v1.AuthService"],
  [userHealth, "user.v1.UserService"],
] as const) {
  const { status } = await health.check({ service });
  console.log(`${service} is ${ServingStatus[status]}`);
}

const email = `ada-${randomUUID()}@example.com`;
const password = randomUUID();
const { id } = await auth.register({ email, password });
console.log(`registered ${id}`);

try {
  await auth.register({ email, password });
} catch (thrown) {
  const { code, reason } = failure(thrown);
  if (reason !== "email_already_registered") throw thrown;
  console.log(`again: ${Code[code]}, ${reason}`);
}

try {
  await auth.register({ email: "nobody", password: "short" });
} catch (thrown) {
  const { code, reason, faults } = failure(thrown);
  if (reason !== "validation_failed") throw thrown;
  console.log(`malformed: ${Code[code]}, ${reason}`);
  for (const { field, description } of faults) console.log(`  ${field}: ${description}`);
}

const { accessToken, expiresIn } = await auth.login({ email, password });
token = accessToken;
console.log(`logged in for ${expiresIn} s`);

// The profile comes into being with the first call that carries the token.
const { user } = await users.getUser({ id });
if (!user) throw new Error("the answer has no profile");
console.log(`the profile of ${user.email} has the name "${user.name}"`);

// Only what the mask names is changed; the etag keeps a change of somebody else from being lost.
const { user: renamed } = await users.updateUser({
  user: { id, name: "Ada Lovelace" },
  updateMask: { paths: ["name"] },
  etag: user.etag,
});
console.log(`now it has the name "${renamed?.name}"`);

try {
  await users.updateUser({ user: { id, name: "Too late" }, updateMask: { paths: ["name"] }, etag: user.etag });
} catch (thrown) {
  const { code, reason } = failure(thrown);
  if (reason !== "precondition_failed") throw thrown;
  console.log(`with the old etag: ${Code[code]}, ${reason}`);
}

// An account bears some wrong passwords (10 by default), then even the right one has to wait: RetryInfo says how long.
for (let attempt = 1; attempt <= 11; attempt++) {
  try {
    await auth.login({ email: `eve-${email}`, password: "a guess" });
  } catch (thrown) {
    const { code, reason, retryAfterMs } = failure(thrown);
    if (retryAfterMs !== undefined) {
      console.log(`guess ${attempt}: ${Code[code]}, ${reason}, again in ${Math.ceil(retryAfterMs / 1000)} s`);
      break;
    }
    if (reason !== "invalid_credentials") throw thrown;
  }
}
