package latchkey.token;

import java.time.Duration;

/**
 * What is demanded beyond a good signature.
 *
 * @param issuer the only issuer whose tokens are taken; null: any whose key is known
 * @param audience whom the tokens must be for; null: anybody
 * @param expLeeway how long after {@code exp} a token is still taken
 * @param clockSkew how far {@code iat} and {@code nbf} may lie in the future: two clocks never agree
 */
public record Rules(String issuer, String audience, Duration expLeeway, Duration clockSkew) {
    /** The rules of every verifier that has no reason for others. */
    public Rules(String issuer, String audience) {
        this(issuer, audience, Duration.ZERO, Duration.ofSeconds(60));
    }
}
