package kernelgate;

import java.lang.reflect.Array;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Rows and columns: what a list of maps, a list of records or a two-dimensional collection is. */
final class Table {
    private static final int DATA_ROWS = 10_000;
    private static final int HTML_ROWS = 1_000;
    private static final int TEXT_ROWS = 60;
    private static final int TEXT_CELL_CHARS = 60;

    final List<String> columns;
    final List<List<Object>> rows;
    /** True where columns have names of their own, and not only numbers. */
    final boolean named;

    private Table(List<String> columns, List<List<Object>> rows, boolean named) {
        this.columns = columns;
        this.rows = rows;
        this.named = named;
    }

    /** The table a value is, or null. An empty collection is none: it has no columns. */
    static Table of(Object value) {
        List<?> items = items(value);
        if (items == null || items.isEmpty()) return null;
        if (items.stream().allMatch(item -> item instanceof Map)) return ofMaps(items.stream().map(item -> (Map<?, ?>) item).toList());
        if (items.get(0) instanceof Record first && items.stream().allMatch(item -> item != null && item.getClass() == first.getClass()))
            return ofMaps(items.stream().map(item -> Json.components((Record) item)).toList());
        if (items.stream().allMatch(item -> items(item) != null)) return ofLists(items.stream().map(Table::items).toList());
        return null;
    }

    /** Columns given by name, each a list: as kernelgate's data type has it. */
    static Table ofColumns(Map<?, ?> columns) {
        List<String> names = columns.keySet().stream().map(String::valueOf).toList();
        List<List<Object>> rows = new ArrayList<>();
        int column = 0;
        for (Object values : columns.values()) {
            List<?> items = items(values);
            if (items == null) return null;
            for (int i = 0; i < items.size(); i++) {
                if (i == rows.size()) rows.add(new ArrayList<>(java.util.Collections.nCopies(names.size(), null)));
                rows.get(i).set(column, items.get(i));
            }
            column++;
        }
        return new Table(names, rows, true);
    }

    private static List<?> items(Object value) {
        if (value instanceof Collection<?> collection) return new ArrayList<>(collection);
        if (value == null || !value.getClass().isArray()) return null;
        if (value instanceof Object[] array) return Arrays.asList(array);
        List<Object> list = new ArrayList<>();
        for (int i = 0; i < Array.getLength(value); i++) list.add(Array.get(value, i));
        return list;
    }

    private static Table ofMaps(List<? extends Map<?, ?>> maps) {
        Set<String> columns = new LinkedHashSet<>();
        for (Map<?, ?> map : maps) for (Object key : map.keySet()) columns.add(String.valueOf(key));
        List<List<Object>> rows = new ArrayList<>();
        for (Map<?, ?> map : maps) {
            Map<String, Object> byName = new LinkedHashMap<>();
            map.forEach((key, item) -> byName.put(String.valueOf(key), item));
            List<Object> row = new ArrayList<>();
            for (String column : columns) row.add(byName.get(column));
            rows.add(row);
        }
        return columns.isEmpty() ? null : new Table(new ArrayList<>(columns), rows, true);
    }

    private static Table ofLists(List<? extends List<?>> lists) {
        int width = lists.stream().mapToInt(List::size).max().orElse(0);
        if (width == 0) return null;
        List<String> columns = new ArrayList<>();
        for (int i = 0; i < width; i++) columns.add(String.valueOf(i));
        List<List<Object>> rows = new ArrayList<>();
        for (List<?> list : lists) {
            List<Object> row = new ArrayList<>(list);
            while (row.size() < width) row.add(null);
            rows.add(row);
        }
        return new Table(columns, rows, false);
    }

    Map<String, Object> data() {
        Map<String, Object> data = new LinkedHashMap<>();
        for (int i = 0; i < columns.size(); i++) {
            List<Object> values = new ArrayList<>();
            for (List<Object> row : rows.subList(0, Math.min(rows.size(), DATA_ROWS))) {
                Object value = Json.scalar(row.get(i));
                boolean scalar = value == null || value instanceof String || value instanceof Number || value instanceof Boolean;
                values.add(scalar ? value : Render.text(value));
            }
            data.put(columns.get(i), values);
        }
        return data;
    }

    private static String cell(Object value) { return value == null ? "" : Render.text(value); }

    private boolean isNumeric(int column) {
        return rows.stream().map(row -> row.get(column)).allMatch(value -> value == null || value instanceof Number);
    }

    String html() {
        StringBuilder out = new StringBuilder("<table border=\"1\" class=\"dataframe\">\n<thead><tr>");
        for (String column : columns) out.append("<th>").append(escape(column)).append("</th>");
        out.append("</tr></thead>\n<tbody>\n");
        for (List<Object> row : rows.subList(0, Math.min(rows.size(), HTML_ROWS))) {
            out.append("<tr>");
            for (Object value : row) out.append("<td>").append(escape(cell(value))).append("</td>");
            out.append("</tr>\n");
        }
        out.append("</tbody>\n</table>");
        if (rows.size() > HTML_ROWS) out.append("\n<p>").append(size()).append("</p>");
        return out.toString();
    }

    private static String escape(String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\"", "&quot;");
    }

    private String size() { return rows.size() + " rows x " + columns.size() + " columns"; }

    /** Aligned columns, numbers to the right; of a long table the head and the tail. */
    String text() {
        boolean all = rows.size() <= TEXT_ROWS;
        List<List<String>> lines = new ArrayList<>();
        lines.add(columns);
        int half = TEXT_ROWS / 2;
        for (int i = 0; i < rows.size(); i++) {
            if (!all && i == half) {
                lines.add(java.util.Collections.nCopies(columns.size(), "..."));
                i = rows.size() - half;
            }
            List<String> line = new ArrayList<>();
            for (Object value : rows.get(i)) {
                String text = cell(value).replace("\n", "\\n");
                line.add(text.length() > TEXT_CELL_CHARS ? text.substring(0, TEXT_CELL_CHARS - 3) + "..." : text);
            }
            lines.add(line);
        }
        int[] widths = new int[columns.size()];
        for (List<String> line : lines)
            for (int i = 0; i < widths.length; i++) widths[i] = Math.max(widths[i], line.get(i).codePointCount(0, line.get(i).length()));
        boolean[] right = new boolean[widths.length];
        for (int i = 0; i < widths.length; i++) right[i] = isNumeric(i);
        StringBuilder out = new StringBuilder();
        for (List<String> line : lines) {
            StringBuilder joined = new StringBuilder();
            for (int i = 0; i < widths.length; i++) {
                String text = line.get(i);
                String pad = " ".repeat(widths[i] - text.codePointCount(0, text.length()));
                joined.append(i > 0 ? "  " : "").append(right[i] ? pad + text : text + pad);
            }
            out.append(joined.toString().stripTrailing()).append('\n');
        }
        if (!all) out.append("\n[").append(size()).append("]\n");
        out.setLength(out.length() - 1);
        return out.toString();
    }
}
