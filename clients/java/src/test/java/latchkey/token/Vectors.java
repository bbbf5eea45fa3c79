package latchkey.token;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.annotations.SerializedName;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.List;
import latchkey.Settings;

/** The file of crates/token-verifier/vectors. */
record Vectors(long now, Given rules, JsonObject jwks, List<Vector> tokens) {
    record Given(
            String iss,
            String aud,
            @SerializedName("exp_leeway") long expLeeway,
            @SerializedName("clock_skew") long clockSkew) {}

    record Vector(String name, String token, boolean valid, Claims claims, String reason) {
        @Override
        public String toString() {
            return name;
        }
    }

    static Vectors load() {
        try {
            return new Gson().fromJson(Files.readString(Path.of(Settings.required("VECTORS"))), Vectors.class);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    TokenVerifier verifier(Keys keys) {
        var demanded = new Rules(
                rules.iss(),
                rules.aud(),
                Duration.ofSeconds(rules.expLeeway()),
                Duration.ofSeconds(rules.clockSkew()));
        return new TokenVerifier(keys, demanded, Clock.fixed(Instant.ofEpochSecond(now), ZoneOffset.UTC));
    }

    String token(String name) {
        return tokens.stream()
                .filter(vector -> vector.name().equals(name))
                .map(Vector::token)
                .findFirst()
                .orElseThrow();
    }
}
