package kernelgate;

import java.lang.reflect.Array;
import java.lang.reflect.RecordComponent;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * JSON as plain maps, lists, strings, numbers and booleans. Gson is in JJava's jar, but its reflection and type adapters cost more
 * start-up time than this whole file, and user values (records, arrays, dates) need rules of our own anyway.
 */
final class Json {
    /** Text that is already JSON, to be copied as it stands. */
    record Raw(String text) {}

    /** Nesting beyond this is refused with an error instead of a StackOverflowError; a value that contains itself ends here too. */
    private static final int MAX_DEPTH = 200;

    private Json() {}

    /** A map in the order given: key, value, key, value. */
    static Map<String, Object> map(Object... pairs) {
        Map<String, Object> map = new LinkedHashMap<>();
        for (int i = 0; i < pairs.length; i += 2) map.put((String) pairs[i], pairs[i + 1]);
        return map;
    }

    static String write(Object value) {
        StringBuilder out = new StringBuilder(256);
        write(out, value, 0);
        return out.toString();
    }

    static byte[] bytes(Object value) {
        return write(value).getBytes(StandardCharsets.UTF_8);
    }

    private static void write(StringBuilder out, Object value, int depth) {
        if (depth > MAX_DEPTH) throw new IllegalArgumentException("value is nested too deeply for JSON");
        Object plain = scalar(value);
        if (plain == null) out.append("null");
        else if (plain instanceof Raw raw) out.append(raw.text);
        else if (plain instanceof String text) string(out, text);
        else if (plain instanceof Number || plain instanceof Boolean) out.append(plain);
        else if (value instanceof Map<?, ?> map) {
            out.append('{');
            String comma = "";
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                out.append(comma);
                string(out, String.valueOf(entry.getKey()));
                out.append(':');
                write(out, entry.getValue(), depth + 1);
                comma = ",";
            }
            out.append('}');
        } else if (value instanceof Record record) {
            write(out, components(record), depth);
        } else if (value instanceof Collection<?> items) {
            out.append('[');
            String comma = "";
            for (Object item : items) {
                out.append(comma);
                write(out, item, depth + 1);
                comma = ",";
            }
            out.append(']');
        } else if (value.getClass().isArray()) {
            out.append('[');
            for (int i = 0; i < Array.getLength(value); i++) {
                if (i > 0) out.append(',');
                write(out, Array.get(value, i), depth + 1);
            }
            out.append(']');
        } else string(out, String.valueOf(value));
    }

    /** The JSON scalar a value stands for (String, Number, Boolean, null), or the value itself where it is a container or unknown. */
    static Object scalar(Object value) {
        if (value instanceof Optional<?> optional) return scalar(optional.orElse(null));
        // JSON has no NaN and no infinity; a missing value is null.
        if (value instanceof Double number) return number.isNaN() || number.isInfinite() ? null : value;
        if (value instanceof Float number) return number.isNaN() || number.isInfinite() ? null : value;
        if (value instanceof Byte || value instanceof Short || value instanceof Integer || value instanceof Long
                || value instanceof java.math.BigInteger || value instanceof java.math.BigDecimal) return value;
        if (value instanceof Number number) return scalar(number.doubleValue());
        if (value instanceof Character || value instanceof CharSequence || value instanceof java.time.temporal.TemporalAccessor)
            return value.toString();
        if (value instanceof Enum<?> constant) return constant.name();
        // java.sql.Date and Time refuse toInstant.
        if (value instanceof Date date) return Instant.ofEpochMilli(date.getTime()).toString();
        return value;
    }

    static Map<String, Object> components(Record record) {
        Map<String, Object> map = new LinkedHashMap<>();
        for (RecordComponent component : record.getClass().getRecordComponents()) {
            try {
                component.getAccessor().setAccessible(true);
                map.put(component.getName(), component.getAccessor().invoke(record));
            } catch (ReflectiveOperationException e) {
                throw new IllegalStateException("cannot read " + component, e);
            }
        }
        return map;
    }

    private static final String HEX = "0123456789abcdef";

    private static void string(StringBuilder out, String text) {
        out.append('"');
        int copied = 0;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            // A lone surrogate cannot be encoded in UTF-8, but can be escaped.
            boolean lone = Character.isSurrogate(c)
                    && !(Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1)))
                    && !(Character.isLowSurrogate(c) && i > 0 && Character.isHighSurrogate(text.charAt(i - 1)));
            if (c >= 0x20 && c != '"' && c != '\\' && !lone) continue;
            out.append(text, copied, i);
            copied = i + 1;
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\n' -> out.append("\\n");
                case '\r' -> out.append("\\r");
                case '\t' -> out.append("\\t");
                default -> out.append("\\u").append(HEX.charAt(c >> 12)).append(HEX.charAt(c >> 8 & 15))
                        .append(HEX.charAt(c >> 4 & 15)).append(HEX.charAt(c & 15));
            }
        }
        out.append(text, copied, text.length()).append('"');
    }

    /** Reads a whole document. Throws IllegalArgumentException where it is not JSON. */
    static Object read(String text) {
        Reader reader = new Reader(text);
        Object value = reader.value(0);
        reader.space();
        if (reader.at != text.length()) throw reader.error("text after the value");
        return value;
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> readMap(byte[] text) {
        return (Map<String, Object>) read(new String(text, StandardCharsets.UTF_8));
    }

    private static final class Reader {
        private final String text;
        private int at;

        Reader(String text) { this.text = text; }

        IllegalArgumentException error(String what) { return new IllegalArgumentException("JSON: " + what + " at offset " + at); }

        void space() { while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++; }

        boolean take(char c) {
            space();
            if (at >= text.length() || text.charAt(at) != c) return false;
            at++;
            return true;
        }

        void need(char c) { if (!take(c)) throw error("expected " + c); }

        Object value(int depth) {
            if (depth > MAX_DEPTH) throw error("nested too deeply");
            if (take('{')) {
                Map<String, Object> map = new LinkedHashMap<>();
                if (take('}')) return map;
                do {
                    space();
                    need('"');
                    String key = string();
                    need(':');
                    map.put(key, value(depth + 1));
                } while (take(','));
                need('}');
                return map;
            }
            if (take('[')) {
                List<Object> list = new ArrayList<>();
                if (take(']')) return list;
                do list.add(value(depth + 1)); while (take(','));
                need(']');
                return list;
            }
            if (take('"')) return string();
            int from = at;
            while (at < text.length() && ",]} \t\r\n".indexOf(text.charAt(at)) < 0) at++;
            String word = text.substring(from, at);
            switch (word) {
                case "true": return true;
                case "false": return false;
                case "null": return null;
                default:
                    if (!word.matches("-?(0|[1-9]\\d*)(\\.\\d+)?([eE][+-]?\\d+)?")) throw error("not a value: " + word);
                    if (word.matches("-?\\d{1,18}")) return Long.valueOf(word);
                    return new java.math.BigDecimal(word);
            }
        }

        String string() {
            StringBuilder out = null;
            int from = at;
            while (true) {
                if (at >= text.length()) throw error("unfinished string");
                char c = text.charAt(at++);
                if (c == '"') {
                    String tail = text.substring(from, at - 1);
                    return out == null ? tail : out.append(tail).toString();
                }
                if (c != '\\') continue;
                if (out == null) out = new StringBuilder();
                out.append(text, from, at - 1);
                if (at >= text.length()) throw error("unfinished string");
                char escape = text.charAt(at++);
                int known = "\"\\/bfnrt".indexOf(escape);
                if (known >= 0) out.append("\"\\/\b\f\n\r\t".charAt(known));
                else if (escape == 'u' && at + 4 <= text.length()) {
                    out.append((char) Integer.parseInt(text.substring(at, at + 4), 16));
                    at += 4;
                } else throw error("bad escape");
                from = at;
            }
        }
    }
}
