package kernelgate;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;

/** What a cell can call without an import. A method or variable of the user's with the same name goes before. */
public final class Notebook {
    static Outbox outbox;
    private static final AtomicLong NEXT_ID = new AtomicLong();
    private static final String ID_PREFIX = "display-" + Long.toHexString(System.nanoTime()) + "-";
    /** The id display gave last. As the value of a cell it is noise (see Engine); identity tells it from an equal text. */
    static volatile String lastId;

    private Notebook() {}

    /**
     * Shows a value. With MIME types, shows it in these forms: text as data of that type ({@code display("<b>x</b>", "text/html")}),
     * bytes as base64, an image in that format, anything else as JSON or text.
     *
     * @return an id for updateDisplay
     */
    public static String display(Object value, String... mimeTypes) {
        String id = ID_PREFIX + NEXT_ID.incrementAndGet();
        show("display_data", id, value, mimeTypes);
        return lastId = id;
    }

    /** Shows a value under an id of one's own choice. */
    public static void displayWithId(String id, Object value, String... mimeTypes) { show("display_data", id, value, mimeTypes); }

    /** Replaces what is shown under an id, wherever it is shown. */
    public static void updateDisplay(String id, Object value, String... mimeTypes) { show("update_display_data", id, value, mimeTypes); }

    private static void show(String type, String id, Object value, String[] mimeTypes) {
        Map<String, Object> bundle = mimeTypes.length == 0 ? Render.bundle(value) : new LinkedHashMap<>();
        for (String mimeType : mimeTypes) bundle.put(mimeType, Render.encode(mimeType, value));
        if (mimeTypes.length > 0) bundle.putIfAbsent("text/plain", value instanceof byte[] ? "<" + mimeTypes[0] + ">" : Render.text(value));
        outbox.publish(Execution.current(), type, Json.map("data", bundle, "metadata", Map.of(), "transient", Map.of("display_id", id)));
    }

    /** Removes what the cell has shown so far; with true, only when the next output comes. */
    public static void clearOutput(boolean wait) { outbox.publish(Execution.current(), "clear_output", Map.of("wait", wait)); }

    public static Mime mime(String mimeType, Object data) { return new Mime(Map.of(mimeType, Render.encode(mimeType, data))); }

    public static Mime html(String source) { return mime("text/html", source); }

    public static Mime markdown(String source) { return mime("text/markdown", source).with("text/plain", source); }

    public static Mime latex(String source) { return mime("text/latex", source).with("text/plain", source); }

    public static Mime svg(String source) { return mime("image/svg+xml", source); }

    public static Mime javascript(String source) { return mime("application/javascript", source); }

    /** JSON text, or a value to be written as JSON: maps, collections, arrays, records. */
    public static Mime json(Object value) {
        return mime("application/json", value).with("text/plain", value instanceof String ? value : Json.write(value));
    }

    public static Mime geoJson(Object value) { return mime("application/geo+json", value); }

    public static Mime vegaLite(Object specification) { return mime("application/vnd.vegalite.v5+json", specification); }

    public static Mime plotly(Object figure) { return mime("application/vnd.plotly.v1+json", figure); }

    /** An image that is already encoded: PNG, JPEG, GIF, SVG or PDF, told apart by its first bytes. */
    public static Mime image(byte[] bytes) {
        String start = new String(bytes, 0, Math.min(bytes.length, 8), java.nio.charset.StandardCharsets.ISO_8859_1);
        if (start.startsWith("\u0089PNG")) return mime("image/png", bytes);
        if (start.startsWith("\u00ff\u00d8")) return mime("image/jpeg", bytes);
        if (start.startsWith("GIF8")) return mime("image/gif", bytes);
        if (start.startsWith("%PDF")) return mime("application/pdf", bytes);
        if (start.startsWith("<")) return mime("image/svg+xml", bytes);
        throw new IllegalArgumentException("not a PNG, JPEG, GIF, SVG or PDF");
    }

    public static Mime image(Path file) {
        try {
            return image(Files.readAllBytes(file));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** A table of a list of maps, a list of records, a two-dimensional collection, or a map from column name to values. */
    public static Mime table(Object value) {
        Table table = value instanceof Map<?, ?> columns ? Table.ofColumns(columns) : Table.of(value);
        if (table == null) throw new IllegalArgumentException("not a table: a list of maps or of records, or a map of lists, is one");
        return new Mime(Render.bundle(table, table.text()));
    }
}
