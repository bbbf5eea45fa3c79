package latchkey.token;

import java.io.IOException;
import java.time.Duration;
import java.util.List;
import org.jose4j.http.Get;
import org.jose4j.jwk.HttpsJwks;
import org.jose4j.jwk.JsonWebKey;
import org.jose4j.lang.JoseException;

/**
 * The keys of a JWKS URL, fetched anew when the answer's {@code max-age} is over and for a key that is not known yet.
 * While the auth service is away, the known keys go on verifying.
 */
public final class RemoteKeys implements Keys {
    /** How often a token of an unknown key may cause a fetch, whoever sends it. */
    private static final Duration COOLDOWN = Duration.ofSeconds(10);

    private static final int FETCH_TIMEOUT_MS = 5_000;
    private static final int MAX_DOCUMENT_BYTES = 256 * 1024;

    private final HttpsJwks jwks;
    private long asked = System.nanoTime() - COOLDOWN.toNanos();

    public RemoteKeys(String url) {
        var get = new Get();
        get.setConnectTimeout(FETCH_TIMEOUT_MS);
        get.setReadTimeout(FETCH_TIMEOUT_MS);
        get.setResponseBodySizeLimit(MAX_DOCUMENT_BYTES);
        get.setRetries(0);
        jwks = new HttpsJwks(url);
        jwks.setSimpleHttpGet(get);
        // For so long an outage is not looked at again, and the known keys stay.
        jwks.setRetainCacheOnErrorDuration(COOLDOWN.toSeconds());
        // jose4j's own limit counts from the last success, so it holds nobody back while the source is away.
        jwks.setRefreshReprieveThreshold(0);
    }

    @Override
    public List<JsonWebKey> known() throws UnavailableException {
        try {
            return jwks.getJsonWebKeys();
        } catch (JoseException | IOException error) {
            throw new UnavailableException(error);
        }
    }

    /** Those who come while a fetch is under way wait for it. */
    @Override
    public synchronized List<JsonWebKey> renewed() throws UnavailableException {
        if (System.nanoTime() - asked >= COOLDOWN.toNanos()) {
            asked = System.nanoTime();
            try {
                jwks.refresh();
            } catch (JoseException | IOException away) {
                // The known keys stay.
            }
        }
        return known();
    }
}
