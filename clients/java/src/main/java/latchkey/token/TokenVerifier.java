package latchkey.token;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.security.GeneralSecurityException;
import java.security.PublicKey;
import java.security.Signature;
import java.time.Clock;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Stream;
import latchkey.token.InvalidTokenException.Reason;
import org.jose4j.jwa.AlgorithmConstraints;
import org.jose4j.jwa.AlgorithmConstraints.ConstraintType;
import org.jose4j.jwk.EllipticCurveJsonWebKey;
import org.jose4j.jwk.JsonWebKey;
import org.jose4j.jwk.OctetKeyPairJsonWebKey;
import org.jose4j.jwk.PublicJsonWebKey;
import org.jose4j.jwk.RsaJsonWebKey;
import org.jose4j.jws.JsonWebSignature;
import org.jose4j.lang.JoseException;

/**
 * Validates access tokens.
 *
 * <p>jose4j reads the keys and checks the signature. The rest is here, since jose4j, like most libraries, is laxer than
 * a token should be read: crates/token-verifier/README.md has the list.
 */
public final class TokenVerifier {
    private static final int MAX_TOKEN_BYTES = 8 * 1024;
    private static final int MAX_EMAIL_BYTES = 254;
    private static final int MAX_TRIES = 16;

    /** The last second of the year 9999. */
    private static final double MAX_TIME = 253_402_300_799.0;

    /** The largest number that is the same in every JSON parser. */
    private static final double MAX_INTEGER = 9_007_199_254_740_991.0;

    private static final Set<String> ALGORITHMS = Set.of("RS256", "ES256", "EdDSA", "Ed25519");
    private static final Set<String> TYPES = Set.of("jwt", "at+jwt", "application/at+jwt");
    private static final UUID NIL = new UUID(0, 0);

    private final Keys keys;
    private final Rules rules;
    private final Clock clock;
    private final RevocationList revocations;

    public TokenVerifier(Keys keys, Rules rules) {
        this(keys, rules, Clock.systemUTC());
    }

    public TokenVerifier(Keys keys, Rules rules, Clock clock) {
        this(keys, rules, clock, null);
    }

    private TokenVerifier(Keys keys, Rules rules, Clock clock, RevocationList revocations) {
        this.keys = keys;
        this.rules = rules;
        this.clock = clock;
        this.revocations = revocations;
    }

    /** A verifier that refuses the tokens that this list says are revoked, too. */
    public TokenVerifier refusing(RevocationList revocations) {
        return new TokenVerifier(keys, rules, clock, revocations);
    }

    /** Checks a token and returns its claims. One that is expired or revoked is good but for that. */
    public Claims verify(String token) throws InvalidTokenException, Keys.UnavailableException {
        require(token.getBytes(UTF_8).length <= MAX_TOKEN_BYTES, Reason.TOO_LONG);
        String[] segments = token.split("\\.", -1);
        require(segments.length == 3, Reason.NOT_COMPACT);

        Map<String, Object> header = StrictJson.object(decode(segments[0]));
        checkHeader(header);
        decode(segments[2]);
        // Two names for one algorithm (RFC 9864).
        String algorithm = header.get("alg").equals("Ed25519") ? "EdDSA" : (String) header.get("alg");
        checkSignature(token, algorithm, (String) header.get("kid"));

        Claims claims = readClaims(StrictJson.object(decode(segments[1])));
        checkParties(claims);
        checkTimes(claims);
        require(revocations == null || !revocations.revokes(claims), Reason.REVOKED);
        return claims;
    }

    private static void require(boolean holds, Reason otherwise) throws InvalidTokenException {
        if (!holds) {
            throw new InvalidTokenException(otherwise);
        }
    }

    /** Refuses padding, other alphabets and left-over bits, so that one token has one text only. */
    private static byte[] decode(String segment) throws InvalidTokenException {
        try {
            byte[] bytes = Base64.getUrlDecoder().decode(segment);
            require(Base64.getUrlEncoder().withoutPadding().encodeToString(bytes).equals(segment), Reason.BAD_BASE64);
            return bytes;
        } catch (IllegalArgumentException malformed) {
            throw new InvalidTokenException(Reason.BAD_BASE64);
        }
    }

    private static void checkHeader(Map<String, Object> header) throws InvalidTokenException {
        require(Stream.of("jwk", "jku", "x5c", "x5u").noneMatch(header::containsKey), Reason.KEY_IN_HEADER);
        require(!header.containsKey("crit"), Reason.CRITICAL_HEADER);
        require(Stream.of("b64", "enc", "zip").noneMatch(header::containsKey), Reason.UNSUPPORTED_HEADER);
        // Media types are compared without regard to case (RFC 7515 section 4.1.9), names of algorithms are not.
        require(
                !header.containsKey("typ")
                        || header.get("typ") instanceof String typ && TYPES.contains(typ.toLowerCase(Locale.ROOT)),
                Reason.WRONG_TYPE);
        require(header.get("alg") instanceof String alg && ALGORITHMS.contains(alg), Reason.UNSUPPORTED_ALGORITHM);
        require(!header.containsKey("kid") || header.get("kid") instanceof String, Reason.BAD_KID);
    }

    private void checkSignature(String token, String algorithm, String kid)
            throws InvalidTokenException, Keys.UnavailableException {
        List<JsonWebKey> named = named(keys.known(), kid);
        if (named.isEmpty()) {
            named = named(keys.renewed(), kid);
        }
        require(!named.isEmpty(), Reason.UNKNOWN_KEY);
        List<JsonWebKey> candidates =
                named.stream().filter(key -> algorithm.equals(algorithmOf(key))).toList();
        require(!candidates.isEmpty(), Reason.ALGORITHM_MISMATCH);
        require(
                candidates.stream().limit(MAX_TRIES).anyMatch(key -> signed(token, algorithm, key)),
                Reason.BAD_SIGNATURE);
    }

    /** The usable keys that a token may mean: a token without a kid may be of any. */
    private static List<JsonWebKey> named(List<JsonWebKey> keys, String kid) {
        return keys.stream()
                .filter(key -> algorithmOf(key) != null)
                .filter(key -> kid == null || kid.equals(key.getKeyId()))
                .toList();
    }

    /**
     * One key, one algorithm (RFC 8725 section 3.1), which its type gives. Null for a key that must not be used here:
     * a private or secret one, one of another type or use, one that contradicts itself.
     */
    private static String algorithmOf(JsonWebKey key) {
        String algorithm = null;
        if (key instanceof RsaJsonWebKey) {
            algorithm = "RS256";
        } else if (key instanceof EllipticCurveJsonWebKey ec && ec.getCurveName().equals("P-256")) {
            algorithm = "ES256";
        } else if (key instanceof OctetKeyPairJsonWebKey okp && okp.getSubtype().equals("Ed25519")) {
            algorithm = "EdDSA";
        }
        boolean usable = key instanceof PublicJsonWebKey pair
                && pair.getPrivateKey() == null
                && (key.getUse() == null || key.getUse().equals("sig"))
                && (key.getKeyOps() == null || key.getKeyOps().contains("verify"))
                && (key.getAlgorithm() == null
                        || key.getAlgorithm().equals(algorithm)
                        || key instanceof OctetKeyPairJsonWebKey && key.getAlgorithm().equals("Ed25519"));
        return usable ? algorithm : null;
    }

    private static boolean signed(String token, String algorithm, JsonWebKey key) {
        try {
            if (algorithm.equals("EdDSA")) {
                // jose4j knows one of its two names only.
                int end = token.lastIndexOf('.');
                var signature = Signature.getInstance("Ed25519");
                signature.initVerify((PublicKey) key.getKey());
                signature.update(token.substring(0, end).getBytes(UTF_8));
                return signature.verify(Base64.getUrlDecoder().decode(token.substring(end + 1)));
            }
            var jws = new JsonWebSignature();
            jws.setAlgorithmConstraints(new AlgorithmConstraints(ConstraintType.PERMIT, algorithm));
            jws.setCompactSerialization(token);
            jws.setKey(key.getKey());
            return jws.verifySignature();
        } catch (JoseException | GeneralSecurityException malformed) {
            return false;
        }
    }

    private static Claims readClaims(Map<String, Object> members) throws InvalidTokenException {
        String sub = text(members, "sub");
        require(sub != null, Reason.MISSING_CLAIM);
        String email = text(members, "email");
        require(email == null || email.getBytes(UTF_8).length <= MAX_EMAIL_BYTES, Reason.INVALID_CLAIM);
        Long iat = time(members, "iat");
        Long exp = time(members, "exp");
        require(iat != null && exp != null, Reason.MISSING_CLAIM);
        return new Claims(
                uuid(sub),
                email,
                iat,
                exp,
                time(members, "nbf"),
                text(members, "iss"),
                audience(members),
                text(members, "jti"),
                generation(members),
                members.containsKey("sid") ? uuid(text(members, "sid")) : null,
                flag(members, "email_verified"));
    }

    /** One account has one spelling: lower case with hyphens (RFC 9562 section 4), and it is not nil. */
    private static UUID uuid(String text) throws InvalidTokenException {
        try {
            UUID uuid = UUID.fromString(text);
            require(uuid.toString().equals(text) && !uuid.equals(NIL), Reason.INVALID_CLAIM);
            return uuid;
        } catch (IllegalArgumentException malformed) {
            throw new InvalidTokenException(Reason.INVALID_CLAIM);
        }
    }

    private static String text(Map<String, Object> members, String name) throws InvalidTokenException {
        Object claim = members.get(name);
        require(claim instanceof String || !members.containsKey(name), Reason.INVALID_CLAIM);
        return (String) claim;
    }

    /** A fraction is cut off: for {@code exp} that is the stricter reading. */
    private static Long time(Map<String, Object> members, String name) throws InvalidTokenException {
        if (!members.containsKey(name)) {
            return null;
        }
        if (members.get(name) instanceof Double seconds && seconds >= 0 && seconds <= MAX_TIME) {
            return seconds.longValue();
        }
        throw new InvalidTokenException(Reason.INVALID_CLAIM);
    }

    private static long generation(Map<String, Object> members) throws InvalidTokenException {
        if (!members.containsKey("gen")) {
            return 0;
        }
        if (members.get("gen") instanceof Double number
                && number >= 0
                && number <= MAX_INTEGER
                && number == Math.rint(number)) {
            return number.longValue();
        }
        throw new InvalidTokenException(Reason.INVALID_CLAIM);
    }

    private static Boolean flag(Map<String, Object> members, String name) throws InvalidTokenException {
        Object claim = members.get(name);
        require(claim instanceof Boolean || !members.containsKey(name), Reason.INVALID_CLAIM);
        return (Boolean) claim;
    }

    private static List<String> audience(Map<String, Object> members) throws InvalidTokenException {
        Object claim = members.get("aud");
        if (!members.containsKey("aud")) {
            return List.of();
        }
        var names = new ArrayList<String>();
        for (Object name : claim instanceof List<?> many ? many : Collections.singletonList(claim)) {
            require(name instanceof String, Reason.INVALID_CLAIM);
            names.add((String) name);
        }
        return List.copyOf(names);
    }

    private void checkTimes(Claims claims) throws InvalidTokenException {
        long now = clock.instant().getEpochSecond();
        long latest = now + rules.clockSkew().toSeconds();
        require(claims.iat() <= latest && (claims.nbf() == null || claims.nbf() <= latest), Reason.NOT_YET_VALID);
        require(claims.exp() > now - rules.expLeeway().toSeconds(), Reason.EXPIRED);
    }

    private void checkParties(Claims claims) throws InvalidTokenException {
        if (rules.issuer() != null) {
            require(claims.iss() != null, Reason.MISSING_CLAIM);
            require(claims.iss().equals(rules.issuer()), Reason.WRONG_ISSUER);
        }
        if (rules.audience() != null) {
            require(!claims.aud().isEmpty(), Reason.MISSING_CLAIM);
            require(claims.aud().contains(rules.audience()), Reason.WRONG_AUDIENCE);
        }
    }
}
