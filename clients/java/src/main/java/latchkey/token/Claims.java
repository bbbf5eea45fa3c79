package latchkey.token;

import com.google.gson.annotations.SerializedName;
import java.util.List;
import java.util.UUID;

/**
 * What a valid token says. Times are in whole seconds since 1970-01-01T00:00:00Z; {@code email}, {@code nbf},
 * {@code iss}, {@code jti}, {@code sid} and {@code emailVerified} are null where the token has none.
 *
 * @param sub the account's id
 * @param gen the generation of the account's credentials; absent, it is 0
 * @param sid the session that the token belongs to
 */
public record Claims(
        UUID sub,
        String email,
        long iat,
        long exp,
        Long nbf,
        String iss,
        List<String> aud,
        String jti,
        long gen,
        UUID sid,
        @SerializedName("email_verified") Boolean emailVerified) {}
