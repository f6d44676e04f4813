package kernelgate;

/** Small questions about source text. */
final class Text {
    private Text() {}

    /** Number of the line an offset is on, from 0. */
    static int lineOf(String text, int offset) {
        int line = 0;
        for (int i = 0; i < Math.min(offset, text.length()); i++) if (text.charAt(i) == '\n') line++;
        return line;
    }

    /** The line an offset is on, without its end, and the offset within it. */
    static String lineAt(String text, int offset) {
        int from = text.lastIndexOf('\n', offset - 1) + 1;
        int to = text.indexOf('\n', offset);
        return text.substring(from, to < 0 ? text.length() : to);
    }

    static int columnOf(String text, int offset) { return offset - (text.lastIndexOf('\n', offset - 1) + 1); }

    /**
     * True where an expression is an assignment (=, +=, ++ and so on): its value was not asked for. Looks for an assignment operator
     * outside of brackets, strings and comments; a lambda's arrow ends the search, since what follows is its body.
     */
    static boolean isAssignment(String source) {
        StringBuilder top = new StringBuilder();
        int depth = 0;
        for (int i = 0; i < source.length(); i++) {
            char c = source.charAt(i);
            if (source.startsWith("//", i)) {
                i = source.indexOf('\n', i);
                if (i < 0) break;
            } else if (source.startsWith("/*", i)) {
                i = source.indexOf("*/", i + 2) + 1;
                if (i <= 0) break;
            } else if (source.startsWith("\"\"\"", i)) {
                i = endOf(source, i + 3, "\"\"\"") + 2;
            } else if (c == '"' || c == '\'') {
                i = endOf(source, i + 1, String.valueOf(c));
            } else if (source.startsWith("->", i) && depth == 0) {
                break;
            } else {
                if (c == ')' || c == ']' || c == '}') depth--;
                if (depth == 0) top.append(c);
                if (c == '(' || c == '[' || c == '{') depth++;
            }
        }
        String code = top.toString().strip();
        boolean statement = code.endsWith(";");
        if (statement) code = code.substring(0, code.length() - 1).strip();
        if (statement && (code.endsWith("++") || code.endsWith("--") || code.startsWith("++") || code.startsWith("--"))) return true;
        for (int i = code.indexOf('='); i >= 0; i = code.indexOf('=', i + 1)) {
            char before = i > 0 ? code.charAt(i - 1) : ' ';
            if (i + 1 < code.length() && code.charAt(i + 1) == '=') i++;
            else if (before == '<' || before == '>') {
                if (code.startsWith("<<", Math.max(0, i - 2)) || code.startsWith(">>", Math.max(0, i - 2))) return true;
            } else if (before != '!') return true;
        }
        return false;
    }

    private static int endOf(String source, int from, String quote) {
        for (int i = from; i < source.length(); i++) {
            if (source.charAt(i) == '\\') i++;
            else if (source.startsWith(quote, i)) return i;
        }
        return source.length();
    }
}
