package latchkey.token;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Clock;
import java.time.Duration;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;

/**
 * What is known to be revoked. A {@link RevocationFeed} fills it; whoever gets the pages in another way hands them to
 * {@link #apply}. Readers never wait: a change makes a new map.
 */
public final class RevocationList {
    /** What a list holds at most. A page that leads beyond is not taken. */
    static final int MAX_REVOCATIONS = 1_000_000;

    /** The list has no room for a page. */
    public static final class FullException extends Exception {
        private static final long serialVersionUID = 1;
    }

    private final Duration leeway;
    private final Clock clock;
    private volatile Map<RevocationPage.Id, RevocationPage.End> known = Map.of();
    private volatile long completed;
    private volatile boolean isComplete;
    private Map<RevocationPage.Id, RevocationPage.End> incoming;
    private String cursor = "";

    public RevocationList() {
        this(Duration.ZERO, Clock.systemUTC());
    }

    /**
     * @param leeway how long an entry counts beyond its end: {@link Rules#expLeeway}
     */
    public RevocationList(Duration leeway, Clock clock) {
        this.leeway = leeway;
        this.clock = clock;
    }

    /**
     * Takes the next page. The pages from one with {@code reset} to one without {@code more} replace what is known, all
     * at once; every other page adds to it.
     */
    public synchronized void apply(RevocationPage page) throws FullException {
        boolean replaces = page.reset() || incoming != null;
        var next = new HashMap<>(incoming != null ? incoming : page.reset() ? Map.of() : known);
        incoming = null;
        long passed = now();
        next.values().removeIf(end -> end.until() <= passed);
        // Two entries for one account say what either says.
        page.entries().forEach(entry -> next.merge(entry.id(), entry.end(), RevocationPage.End::and));
        if (next.size() > MAX_REVOCATIONS) {
            if (replaces) {
                cursor = "";
            }
            throw new FullException();
        }
        cursor = page.cursor();
        if (replaces && page.more()) {
            incoming = next;
        } else {
            known = next;
        }
        if (!page.more()) {
            confirm();
        }
    }

    /** Notes that nothing has changed. */
    void confirm() {
        completed = System.nanoTime();
        isComplete = true;
    }

    /** Where the next page starts; empty for the first one. */
    public synchronized String cursor() {
        return cursor;
    }

    /** How long ago the list was last known to be complete; empty if it never was. */
    public Optional<Duration> age() {
        return isComplete ? Optional.of(Duration.ofNanos(System.nanoTime() - completed)) : Optional.empty();
    }

    /** Whether the token's session is listed, or its account with a generation above the token's. */
    public boolean revokes(Claims claims) {
        return claims.sid() != null && counts(true, claims.sid().toString(), claims.gen())
                || counts(false, claims.sub().toString(), claims.gen());
    }

    private boolean counts(boolean isSession, String id, long generation) {
        var end = known.get(new RevocationPage.Id(isSession, digest(id)));
        return end != null && generation < end.below() && end.until() > now();
    }

    private long now() {
        return clock.instant().getEpochSecond() - leeway.toSeconds();
    }

    private static String digest(String id) {
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(id.getBytes(UTF_8));
            return Base64.getUrlEncoder().withoutPadding().encodeToString(digest);
        } catch (NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }
}
