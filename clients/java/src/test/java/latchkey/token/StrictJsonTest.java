package latchkey.token;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.Map;
import latchkey.token.InvalidTokenException.Reason;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class StrictJsonTest {
    private static Map<String, Object> read(String text) throws InvalidTokenException {
        return StrictJson.object(text.getBytes(UTF_8));
    }

    private static String nested(int depth) {
        return "{\"a\":" + "[".repeat(depth - 1) + "]".repeat(depth - 1) + "}";
    }

    private static void assertRefused(Reason reason, String text) {
        assertEquals(reason, assertThrows(InvalidTokenException.class, () -> read(text)).reason());
    }

    @Test
    void objectsAreRead() throws InvalidTokenException {
        assertEquals(
                Map.of("a", List.of(Map.of("b", -1500.0), Map.of("b", "\"{,")), "c", List.of(), "d", true),
                read(" {\"a\":[{\"b\":-1.5e3},{\"b\":\"\\\"{,\"}],\"c\":[],\"d\":true} "));
        read(nested(127));
    }

    @ParameterizedTest
    @ValueSource(strings = {"{'a':1}", "{\"a\":1,}", "{\"a\":01}", "{\"a\":TRUE}", "{\"a\":1e999}", "{\"a\":\"\\ud800\"}"})
    void whatIsNoJsonIsRefused(String text) {
        assertRefused(Reason.BAD_JSON, text);
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "1", "[]", "null", "{", "{}{}", "{} x", "\ufeff{}", "{\"a\" 1}", "{\"a\":\"\t\"}"})
    void whatIsNoObjectIsRefused(String text) {
        assertRefused(Reason.BAD_JSON, text);
    }

    @Test
    void whatIsNestedTooDeepIsRefused() {
        assertRefused(Reason.BAD_JSON, nested(128));
    }

    @ParameterizedTest
    @ValueSource(strings = {"{\"a\":1,\"\\u0061\":2}", "{\"a\":[{\"b\":{},\"b\":{}}]}", "{\"\":1,\"\":1}"})
    void equalMembersAreRefused(String text) {
        assertRefused(Reason.DUPLICATE_MEMBER, text);
    }
}
