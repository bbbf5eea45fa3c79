package latchkey.token;

import java.util.Locale;

/** The token is refused. */
public final class InvalidTokenException extends Exception {
    private static final long serialVersionUID = 1;

    /** Why. The names are those of Rust's {@code VerifyError::reason}, which also says what they mean. */
    public enum Reason {
        TOO_LONG,
        NOT_COMPACT,
        BAD_BASE64,
        BAD_JSON,
        DUPLICATE_MEMBER,
        UNSUPPORTED_ALGORITHM,
        KEY_IN_HEADER,
        CRITICAL_HEADER,
        UNSUPPORTED_HEADER,
        WRONG_TYPE,
        BAD_KID,
        UNKNOWN_KEY,
        ALGORITHM_MISMATCH,
        BAD_SIGNATURE,
        MISSING_CLAIM,
        INVALID_CLAIM,
        EXPIRED,
        NOT_YET_VALID,
        WRONG_ISSUER,
        WRONG_AUDIENCE,
        /** Its session was ended, or every token of its account. */
        REVOKED;

        @Override
        public String toString() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    private final Reason reason;

    InvalidTokenException(Reason reason) {
        super("the token is refused: " + reason);
        this.reason = reason;
    }

    public Reason reason() {
        return reason;
    }
}
