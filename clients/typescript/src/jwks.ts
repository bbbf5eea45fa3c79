import { type CompactVerifyGetKey, createRemoteJWKSet, errors } from "jose";

/** Well before the `max-age` of the auth service's answer, 300 s, is over. */
const REFRESH_MS = 240_000;

/** How often a token of an unknown key may cause a fetch, whoever sends it. */
const COOLDOWN_MS = 10_000;

/**
 * The keys of a JWKS URL, fetched anew in the background and for a key that is not known yet. While
 * the auth service is away, the known keys go on verifying.
 */
export function remoteKeys(url: URL): CompactVerifyGetKey {
  // jose's own refetches count from the last success, and fail every token while the source is away.
  const known = createRemoteJWKSet(url, { timeoutDuration: 5_000, cacheMaxAge: Infinity, cooldownDuration: Infinity });
  const refresh = (): Promise<void> => known.reload().catch(() => undefined);
  setInterval(refresh, REFRESH_MS).unref();
  let asked = -Infinity;
  return async (header, token) => {
    try {
      return await known(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      // A fetch that is under way is joined, whatever has caused it.
      if (!known.reloading) {
        if (performance.now() - asked < COOLDOWN_MS) throw error;
        asked = performance.now();
      }
      await refresh();
      return known(header, token);
    }
  };
}
