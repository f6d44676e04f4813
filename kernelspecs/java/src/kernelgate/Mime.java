package kernelgate;

import java.util.LinkedHashMap;
import java.util.Map;

/** Data with its MIME type or types: shown as such, as the value of a cell or by display. Made by the helpers of Notebook. */
public final class Mime {
    final Map<String, Object> data;

    Mime(Map<String, Object> data) { this.data = data; }

    /** This with one more form. */
    public Mime with(String mimeType, Object value) {
        Map<String, Object> more = new LinkedHashMap<>(data);
        more.put(mimeType, Render.encode(mimeType, value));
        return new Mime(more);
    }

    @Override
    public String toString() {
        Object text = data.get("text/plain");
        return text != null ? text.toString() : "<" + String.join(", ", data.keySet()) + ">";
    }
}
