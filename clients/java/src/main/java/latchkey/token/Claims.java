package latchkey.token;

import java.util.List;
import java.util.UUID;

/**
 * What a valid token says. Times are in whole seconds since 1970-01-01T00:00:00Z; {@code email}, {@code nbf},
 * {@code iss} and {@code jti} are null where the token has none.
 *
 * @param sub the account's id
 */
public record Claims(
        UUID sub, String email, long iat, long exp, Long nbf, String iss, List<String> aud, String jti) {}
