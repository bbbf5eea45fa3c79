package latchkey.token;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;

/** One answer of {@code GET /.well-known/revocations}. */
public record RevocationPage(boolean reset, boolean more, String cursor, List<Entry> entries) {
    private static final int MAX_CURSOR_BYTES = 1024;

    /** A session or an account, by the digest of its id. */
    record Id(boolean isSession, String digest) {}

    /** Ends the tokens of a generation below this one, until its end in seconds since 1970. */
    record End(long below, long until) {
        End and(End other) {
            return new End(Math.max(below, other.below), Math.max(until, other.until));
        }
    }

    record Entry(Id id, End end) {}

    /** The answer is not a page of revocations. */
    public static final class MalformedException extends Exception {
        private static final long serialVersionUID = 1;

        MalformedException(String message) {
            super(message);
        }
    }

    /** Reads the body of an answer. Entries of a kind that is not known here are passed over. */
    public static RevocationPage read(byte[] text) throws MalformedException {
        Map<String, Object> body;
        try {
            body = StrictJson.object(text);
        } catch (InvalidTokenException malformed) {
            throw new MalformedException("not one JSON object");
        }
        if (body.get("reset") instanceof Boolean reset
                && body.get("more") instanceof Boolean more
                && body.get("cursor") instanceof String cursor
                && cursor.getBytes(UTF_8).length <= MAX_CURSOR_BYTES
                && body.get("entries") instanceof List<?> given) {
            var entries = new ArrayList<Entry>();
            for (Object entry : given) {
                read(entry, entries);
            }
            return new RevocationPage(reset, more, cursor, List.copyOf(entries));
        }
        throw new MalformedException("a member is missing or of another type");
    }

    private static void read(Object given, List<Entry> entries) throws MalformedException {
        if (!(given instanceof Map<?, ?> entry)) {
            throw new MalformedException("an entry is no object");
        }
        boolean isSession = entry.containsKey("session");
        if (!isSession && !entry.containsKey("account")) {
            return;
        }
        boolean isOne = isSession != entry.containsKey("account") && isSession != entry.containsKey("generation");
        if (!isOne
                || !(entry.get(isSession ? "session" : "account") instanceof String digest)
                || !isDigest(digest)) {
            throw new MalformedException("an entry is malformed");
        }
        // A session's entry ends tokens of every generation.
        long below = isSession ? Long.MAX_VALUE : integer(entry.get("generation"));
        if (below < 0) {
            throw new MalformedException("a generation is negative");
        }
        entries.add(new Entry(new Id(isSession, digest), new End(below, integer(entry.get("until")))));
    }

    private static long integer(Object number) throws MalformedException {
        if (number instanceof Double value && value == Math.rint(value)) {
            return value.longValue();
        }
        throw new MalformedException("a number is missing or not whole");
    }

    private static boolean isDigest(String text) {
        try {
            byte[] digest = Base64.getUrlDecoder().decode(text);
            return digest.length == 32
                    && Base64.getUrlEncoder().withoutPadding().encodeToString(digest).equals(text);
        } catch (IllegalArgumentException malformed) {
            return false;
        }
    }
}
