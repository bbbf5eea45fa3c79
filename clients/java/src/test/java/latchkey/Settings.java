package latchkey;

import java.util.Objects;

/** Where the services under test are. A test without its service proves nothing, so a missing address fails it. */
public final class Settings {
    /** Whose tokens they issue. */
    public static final String ISSUER = "http://localhost:3000";

    /** Whom the tokens are for. */
    public static final String AUDIENCE = "latchkey";

    private Settings() {}

    public static String required(String name) {
        return Objects.requireNonNull(System.getenv(name), name + " is not set: see clients/README.md");
    }
}
