package kernelgate;

import java.awt.Image;
import java.awt.image.BufferedImage;
import java.awt.image.RenderedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;
import javax.imageio.ImageIO;

/** What a value looks like, by MIME type. */
final class Render {
    static final String DATA = "application/vnd.kernelgate.data+json";

    private Render() {}

    static Map<String, Object> bundle(Object value) {
        Map<String, Object> bundle = new LinkedHashMap<>();
        if (value instanceof Mime mime) {
            bundle.putAll(mime.data);
            bundle.putIfAbsent("text/plain", mime.toString());
            return bundle;
        }
        if (isImage(value)) return Images.bundle(value);
        Table table = Table.of(value);
        if (table == null) {
            bundle.put("text/plain", text(value));
            return bundle;
        }
        return bundle(table, table.named ? table.text() : text(value));
    }

    static Map<String, Object> bundle(Table table, String text) {
        Map<String, Object> bundle = new LinkedHashMap<>();
        bundle.put("text/plain", text);
        bundle.put("text/html", table.html());
        bundle.put(DATA, table.data());
        return bundle;
    }

    /** Asked by name, so that a cell that makes no image does not load the JDK's image classes. */
    private static boolean isImage(Object value) {
        if (value == null || value.getClass().getName().startsWith("java.util.") || value instanceof String) return false;
        for (Class<?> type = value.getClass(); type != null; type = type.getSuperclass()) {
            if (type.getName().equals("java.awt.Image")) return true;
            for (Class<?> each : type.getInterfaces()) if (each.getName().equals("java.awt.image.RenderedImage")) return true;
        }
        return false;
    }

    /** Java's own text of a value, except that arrays show what is in them. */
    static String text(Object value) {
        if (value == null || !value.getClass().isArray()) return String.valueOf(value);
        String text = Arrays.deepToString(new Object[] {value});
        return text.substring(1, text.length() - 1);
    }

    /** A value as Jupyter carries it under a MIME type: JSON as JSON, bytes as base64, the rest as text. */
    static Object encode(String mimeType, Object value) {
        String type = mimeType.toLowerCase(java.util.Locale.ROOT);
        if (type.endsWith("/json") || type.endsWith("+json")) {
            if (type.equals(DATA)) {
                Table table = value instanceof Map<?, ?> columns ? Table.ofColumns(columns) : Table.of(value);
                if (table != null) return table.data();
            }
            // Text is taken as JSON where it is; where it is not, it is a JSON string.
            if (value instanceof String text) {
                try {
                    return Json.read(text);
                } catch (IllegalArgumentException e) {
                    return text;
                }
            }
            return new Json.Raw(Json.write(value));
        }
        if (value instanceof byte[] bytes) {
            boolean text = type.startsWith("text/") || type.endsWith("+xml") || type.endsWith("javascript");
            return text ? new String(bytes, java.nio.charset.StandardCharsets.UTF_8) : Base64.getEncoder().encodeToString(bytes);
        }
        if (type.startsWith("image/") && isImage(value)) return Images.encode(value, type.substring("image/".length()));
        if (type.equals("text/html") && Table.of(value) != null) return Table.of(value).html();
        return text(value);
    }

    private static final class Images {
        static Map<String, Object> bundle(Object image) {
            RenderedImage rendered = rendered(image);
            Map<String, Object> bundle = new LinkedHashMap<>();
            bundle.put("image/png", encode(rendered, "png"));
            bundle.put("text/plain", image.getClass().getSimpleName() + " " + rendered.getWidth() + "x" + rendered.getHeight());
            return bundle;
        }

        static String encode(Object image, String format) {
            // Without this ImageIO writes a temporary file for each image.
            ImageIO.setUseCache(false);
            RenderedImage rendered = rendered(image);
            // JPEG has no transparency, and the JDK's writer then writes nothing at all.
            if (format.equals("jpeg") && rendered.getColorModel().hasAlpha()) {
                BufferedImage opaque = new BufferedImage(rendered.getWidth(), rendered.getHeight(), BufferedImage.TYPE_INT_RGB);
                opaque.createGraphics().drawRenderedImage(rendered, new java.awt.geom.AffineTransform());
                rendered = opaque;
            }
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            try {
                if (!ImageIO.write(rendered, format, out)) throw new IllegalArgumentException("cannot write this image as " + format);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            return Base64.getEncoder().encodeToString(out.toByteArray());
        }

        private static RenderedImage rendered(Object value) {
            if (value instanceof RenderedImage image) return image;
            Image image = (Image) value;
            BufferedImage copy = new BufferedImage(Math.max(1, image.getWidth(null)), Math.max(1, image.getHeight(null)), BufferedImage.TYPE_INT_ARGB);
            copy.createGraphics().drawImage(image, 0, 0, null);
            return copy;
        }
    }
}
