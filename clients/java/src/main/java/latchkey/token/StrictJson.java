package latchkey.token;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import java.io.IOException;
import java.io.StringReader;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import latchkey.token.InvalidTokenException.Reason;

/**
 * Reads JSON that means the same to every reader. Most libraries keep the last of two equal members, others the
 * first: one token would be two.
 */
final class StrictJson {
    /** Nesting is bounded, as everywhere where strangers may write. */
    private static final int MAX_DEPTH = 127;

    private StrictJson() {}

    /** Reads a whole text as one object of maps, lists, strings, doubles, booleans and nulls. */
    static Map<String, Object> object(byte[] bytes) throws InvalidTokenException {
        try {
            // Refuses what is not UTF-8, which `new String` would replace.
            String text = UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
            var reader = new JsonReader(new StringReader(text));
            reader.setStrictness(Strictness.STRICT);
            reader.setNestingLimit(MAX_DEPTH);
            // The reader would skip a byte order mark.
            if (!text.startsWith("\ufeff") && reader.peek() == JsonToken.BEGIN_OBJECT) {
                Map<String, Object> members = members(reader);
                if (reader.peek() == JsonToken.END_DOCUMENT) {
                    return members;
                }
            }
        } catch (IOException malformed) {
            // As below.
        }
        throw new InvalidTokenException(Reason.BAD_JSON);
    }

    private static Map<String, Object> members(JsonReader reader) throws IOException, InvalidTokenException {
        var members = new LinkedHashMap<String, Object>();
        reader.beginObject();
        while (reader.hasNext()) {
            String name = wellFormed(reader.nextName());
            if (members.containsKey(name)) {
                throw new InvalidTokenException(Reason.DUPLICATE_MEMBER);
            }
            members.put(name, value(reader));
        }
        reader.endObject();
        return members;
    }

    private static List<Object> items(JsonReader reader) throws IOException, InvalidTokenException {
        var items = new ArrayList<>();
        reader.beginArray();
        while (reader.hasNext()) {
            items.add(value(reader));
        }
        reader.endArray();
        return items;
    }

    private static Object value(JsonReader reader) throws IOException, InvalidTokenException {
        return switch (reader.peek()) {
            case BEGIN_OBJECT -> members(reader);
            case BEGIN_ARRAY -> items(reader);
            case STRING -> wellFormed(reader.nextString());
            // Refuses what is beyond a double.
            case NUMBER -> reader.nextDouble();
            case BOOLEAN -> reader.nextBoolean();
            default -> {
                reader.nextNull();
                yield null;
            }
        };
    }

    /** Refuses half of a character, which an escape can write. */
    private static String wellFormed(String text) throws InvalidTokenException {
        if (!UTF_8.newEncoder().canEncode(text)) {
            throw new InvalidTokenException(Reason.BAD_JSON);
        }
        return text;
    }
}
