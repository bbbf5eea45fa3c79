package latchkey.token;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.annotations.SerializedName;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BooleanSupplier;
import latchkey.Settings;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class RevocationsTest {
    /** The file revocations.json of crates/token-verifier/vectors. */
    record Lists(
            Map<String, String> ids,
            Map<String, String> tokens,
            List<Case> cases,
            List<String> malformed,
            @SerializedName("passed_over") List<String> passedOver) {}

    record Case(String name, List<JsonElement> pages, String cursor, List<Check> checks) {
        @Override
        public String toString() {
            return name;
        }
    }

    record Check(String token, long now, String verdict) {}

    private static final Vectors VECTORS = Vectors.load();
    private static final Lists LISTS = load();

    private static Lists load() {
        try {
            var file = Path.of(Settings.required("VECTORS")).resolveSibling("revocations.json");
            return new Gson().fromJson(Files.readString(file), Lists.class);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    static List<Case> cases() {
        return LISTS.cases();
    }

    @ParameterizedTest
    @MethodSource("cases")
    void everyListMeansWhatTheVectorsState(Case one) throws Exception {
        for (Check check : one.checks()) {
            var clock = Clock.fixed(Instant.ofEpochSecond(check.now()), ZoneOffset.UTC);
            // The pages came at the time of the vectors, and are looked at later.
            var list = new RevocationList(Duration.ZERO, clock);
            for (JsonElement page : one.pages()) {
                list.apply(RevocationPage.read(page.toString().getBytes(UTF_8)));
            }
            assertEquals(one.cursor(), list.cursor());
            var rules = new Rules(VECTORS.rules().iss(), VECTORS.rules().aud());
            var verifier = new TokenVerifier(Keys.of(VECTORS.jwks().toString()), rules, clock).refusing(list);
            String verdict;
            try {
                verifier.verify(LISTS.tokens().get(check.token()));
                verdict = "valid";
            } catch (InvalidTokenException refused) {
                verdict = refused.reason().toString();
            }
            assertEquals(check.verdict(), verdict, check.toString());
        }
    }

    @Test
    void nothingButAPageIsReadAsOne() throws Exception {
        assertTrue(LISTS.cases().size() >= 10);
        for (String text : LISTS.malformed()) {
            assertThrows(
                    RevocationPage.MalformedException.class, () -> RevocationPage.read(text.getBytes(UTF_8)), text);
        }
        for (String text : LISTS.passedOver()) {
            assertEquals(List.of(), RevocationPage.read(text.getBytes(UTF_8)).entries());
        }
    }

    @Test
    void aListIsFollowedAndOutlivesItsSource() throws Exception {
        var sid = UUID.fromString("01976f3a-8d2c-7b4e-9f10-00000000000a");
        var claims = new Claims(UUID.randomUUID(), null, 0, 0, null, null, List.of(), null, 0, sid, null);
        var page = "{\"reset\":%s,\"more\":false,\"cursor\":\"a b\",\"entries\":[%s]}";
        var entry = "{\"session\":\"" + LISTS.ids().get(sid.toString()) + "\",\"until\":4000000000}";
        var answer = new AtomicReference<>(page.formatted(true, ""));
        var requests = new CopyOnWriteArrayList<String>();
        var source = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        source.createContext("/", exchange -> {
            var tag = exchange.getRequestHeaders().getFirst("If-None-Match");
            requests.add(exchange.getRequestURI() + " " + (tag != null));
            var body = answer.get().getBytes(UTF_8);
            var own = "\"" + body.length + "\"";
            if (body.length == 0) {
                exchange.sendResponseHeaders(500, -1);
            } else if (own.equals(tag)) {
                exchange.sendResponseHeaders(304, -1);
            } else {
                exchange.getResponseHeaders().set("ETag", own);
                exchange.sendResponseHeaders(200, body.length);
                exchange.getResponseBody().write(body);
            }
            exchange.close();
        });
        source.start();
        var list = new RevocationList();
        var url = "http://" + source.getAddress().getHostString() + ":" + source.getAddress().getPort() + "/r";
        var feed = new RevocationFeed(url, list);
        try {
            until(() -> list.age().isPresent());
            assertFalse(list.revokes(claims));
            answer.set(page.formatted(false, entry));
            until(() -> list.revokes(claims));
            until(() -> requests.size() == 3);
            assertEquals(List.of("/r false", "/r?after=a+b false", "/r?after=a+b true"), requests);
            answer.set("");
            until(() -> requests.size() == 5);
            assertTrue(list.revokes(claims));
        } finally {
            feed.close();
            source.stop(0);
        }
    }

    private static void until(BooleanSupplier condition) throws InterruptedException {
        long deadline = System.nanoTime() + Duration.ofSeconds(5).toNanos();
        while (!condition.getAsBoolean()) {
            assertTrue(System.nanoTime() < deadline);
            Thread.sleep(20);
        }
    }
}
