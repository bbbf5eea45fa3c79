package latchkey.token;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.Base64;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import latchkey.Connection;
import latchkey.Newcomer;
import latchkey.Settings;
import latchkey.token.InvalidTokenException.Reason;
import org.jose4j.jwk.EcJwkGenerator;
import org.jose4j.jwk.JsonWebKeySet;
import org.jose4j.keys.EllipticCurves;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class TokenVerifierTest {
    private static final Vectors VECTORS = Vectors.load();

    static List<Vectors.Vector> vectors() {
        return VECTORS.tokens();
    }

    @Test
    void thereAreVectorsOfBothKinds() {
        assertTrue(vectors().size() >= 100);
        assertTrue(vectors().stream().anyMatch(Vectors.Vector::valid));
        assertTrue(vectors().stream().anyMatch(vector -> !vector.valid()));
    }

    @ParameterizedTest
    @MethodSource("vectors")
    void everyVectorComesOutAsItMust(Vectors.Vector vector) throws Exception {
        var verifier = VECTORS.verifier(Keys.of(VECTORS.jwks().toString()));
        if (vector.valid()) {
            assertEquals(vector.claims(), verifier.verify(vector.token()));
        } else {
            var refusal = assertThrows(InvalidTokenException.class, () -> verifier.verify(vector.token()));
            assertEquals(expectedReason(vector), refusal.reason().toString());
        }
    }

    /** HS256 is for no key of a JWKS, so here it is no algorithm at all. */
    private static String expectedReason(Vectors.Vector vector) {
        boolean ofTheKey = List.of("unknown_key", "algorithm_mismatch").contains(vector.reason());
        return ofTheKey && header(vector.token()).get("alg").getAsString().equals("HS256")
                ? "unsupported_algorithm"
                : vector.reason();
    }

    private static JsonObject header(String token) {
        var header = new String(Base64.getUrlDecoder().decode(token.split("\\.")[0]), UTF_8);
        return JsonParser.parseString(header).getAsJsonObject();
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "{'use':'enc'}", "{'key_ops':['sign']}", "{'alg':'PS256'}", "{'kid':'another'}", "{'d':'AQAB'}"
            })
    void keysForSomethingElseAreLeftOut(String change) throws Exception {
        var token = VECTORS.token("good: RS256");
        var kid = header(token).get("kid");
        var key = VECTORS.jwks().getAsJsonArray("keys").asList().stream()
                .map(JsonElement::getAsJsonObject)
                .filter(candidate -> kid.equals(candidate.get("kid")))
                .findFirst()
                .orElseThrow()
                .deepCopy();
        VECTORS.verifier(Keys.of("{\"keys\":[" + key + "]}")).verify(token);
        JsonParser.parseString(change).getAsJsonObject().entrySet().forEach(member ->
                key.add(member.getKey(), member.getValue()));
        assertRefused(Reason.UNKNOWN_KEY, VECTORS.verifier(Keys.of("{\"keys\":[" + key + "]}")), token);
    }

    @Test
    void aKeyOnAnotherCurveIsLeftOut() throws Exception {
        var token = VECTORS.token("good: ES256");
        var key = EcJwkGenerator.generateJwk(EllipticCurves.P384);
        key.setKeyId(header(token).get("kid").getAsString());
        var keys = Keys.of(new JsonWebKeySet(key).toJson());
        assertRefused(Reason.UNKNOWN_KEY, VECTORS.verifier(keys), token);
    }

    private static void assertRefused(Reason reason, TokenVerifier verifier, String token) {
        assertEquals(
                reason, assertThrows(InvalidTokenException.class, () -> verifier.verify(token)).reason());
    }

    @Test
    void aRealTokenIsValidForItsIssuerItsAudienceAndItsTime() throws Exception {
        Newcomer ada;
        try (var authService = new Connection(Settings.required("AUTH_GRPC"))) {
            ada = Newcomer.register(authService);
        }
        var keys = new RemoteKeys(Settings.required("AUTH_HTTP") + "/.well-known/jwks.json");
        var rules = new Rules(Settings.ISSUER, Settings.AUDIENCE);
        var claims = new TokenVerifier(keys, rules).verify(ada.token());
        assertEquals(ada.id(), claims.sub().toString());
        assertEquals(ada.email(), claims.email());
        assertEquals(ada.login().getExpiresIn(), claims.exp() - claims.iat());

        var otherIssuer = new Rules(Settings.ISSUER + "/", null);
        assertRefused(Reason.WRONG_ISSUER, new TokenVerifier(keys, otherIssuer), ada.token());
        assertRefused(Reason.WRONG_AUDIENCE, new TokenVerifier(keys, new Rules(null, "another")), ada.token());
        assertRefused(Reason.EXPIRED, new TokenVerifier(keys, rules, at(claims.exp())), ada.token());
        assertRefused(Reason.NOT_YET_VALID, new TokenVerifier(keys, rules, at(claims.iat() - 61)), ada.token());
        var segments = ada.token().split("\\.");
        var forged = "{\"sub\":\"" + UUID.randomUUID() + "\"}";
        segments[1] = Base64.getUrlEncoder().withoutPadding().encodeToString(forged.getBytes(UTF_8));
        assertRefused(Reason.BAD_SIGNATURE, new TokenVerifier(keys, rules), String.join(".", segments));
    }

    private static Clock at(long seconds) {
        return Clock.fixed(Instant.ofEpochSecond(seconds), ZoneOffset.UTC);
    }

    @Test
    void strangersCauseFewFetches() throws Exception {
        var fetches = new AtomicInteger();
        var source = source(300, fetches);
        try {
            var verifier = VECTORS.verifier(new RemoteKeys(url(source)));
            verifier.verify(VECTORS.token("good: RS256"));
            assertEquals(1, fetches.get());
            var unknown = VECTORS.token("header: kid unknown");
            IntStream.range(0, 50).parallel().forEach(any -> assertRefused(Reason.UNKNOWN_KEY, verifier, unknown));
            assertEquals(2, fetches.get());
        } finally {
            source.stop(0);
        }
    }

    @Test
    void knownKeysOutliveTheirSource() throws Exception {
        var source = source(1, new AtomicInteger());
        var verifier = VECTORS.verifier(new RemoteKeys(url(source)));
        var good = VECTORS.token("good: RS256");
        try {
            verifier.verify(good);
        } finally {
            source.stop(0);
        }
        // Now the keys are stale.
        Thread.sleep(1_100);
        verifier.verify(good);
        assertRefused(Reason.UNKNOWN_KEY, verifier, VECTORS.token("header: kid unknown"));

        var withoutKeys = VECTORS.verifier(new RemoteKeys(url(source)));
        assertThrows(Keys.UnavailableException.class, () -> withoutKeys.verify(good));
    }

    private static HttpServer source(int maxAge, AtomicInteger fetches) throws IOException {
        var source = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        source.createContext("/", exchange -> {
            fetches.incrementAndGet();
            var answer = VECTORS.jwks().toString().getBytes(UTF_8);
            exchange.getResponseHeaders().set("Cache-Control", "max-age=" + maxAge);
            exchange.sendResponseHeaders(200, answer.length);
            exchange.getResponseBody().write(answer);
            exchange.close();
        });
        source.start();
        return source;
    }

    private static String url(HttpServer source) {
        return "http://" + source.getAddress().getHostString() + ":" + source.getAddress().getPort() + "/";
    }
}
