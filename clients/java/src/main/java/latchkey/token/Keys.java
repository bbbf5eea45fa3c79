package latchkey.token;

import java.util.List;
import org.jose4j.jwk.JsonWebKey;
import org.jose4j.jwk.JsonWebKeySet;
import org.jose4j.lang.JoseException;

/** The issuer's keys. */
public interface Keys {
    /** There are no keys to check any token with, which is no fault of the token. */
    final class UnavailableException extends Exception {
        private static final long serialVersionUID = 1;

        UnavailableException(Throwable cause) {
            super("no signing keys have arrived yet", cause);
        }
    }

    /** The keys that are known now. */
    List<JsonWebKey> known() throws UnavailableException;

    /** The keys after a token has named one that is not known. */
    List<JsonWebKey> renewed() throws UnavailableException;

    /** The keys of a JWK set (RFC 7517 section 5) that never changes. */
    static Keys of(String jwks) throws JoseException {
        List<JsonWebKey> keys = new JsonWebKeySet(jwks).getJsonWebKeys();
        return new Keys() {
            @Override
            public List<JsonWebKey> known() {
                return keys;
            }

            @Override
            public List<JsonWebKey> renewed() {
                return keys;
            }
        };
    }
}
