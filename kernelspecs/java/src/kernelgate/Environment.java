package kernelgate;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.HashMap;
import java.util.Map;

/**
 * Environment variables for one execution. The JVM reads its environment once and keeps a copy, which System.getenv and
 * ProcessBuilder.environment answer from: that copy is what is changed here. System properties of the same names follow, for code that
 * asks for those. Processes see it because every ProcessBuilder of the user's code is made to pass the copy on (see Hooks).
 */
final class Environment {
    private final Map<Object, Object> table;
    private final Method variable;
    private final Method value;

    /** What was there before: null for a name that was not. */
    private final Map<String, String> oldVariables = new HashMap<>();
    private final Map<String, String> oldProperties = new HashMap<>();

    @SuppressWarnings("unchecked")
    Environment() {
        try {
            Class<?> owner = Access.type("java.lang.ProcessEnvironment");
            Field field = Access.field(owner, "theEnvironment");
            table = (Map<Object, Object>) field.get(null);
            variable = Access.method(Access.type("java.lang.ProcessEnvironment$Variable"), "valueOfQueryOnly", String.class);
            value = Access.method(Access.type("java.lang.ProcessEnvironment$Value"), "valueOfQueryOnly", String.class);
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Takes away what only told this JVM how much memory there is: a java started by a cell would speak of it on its stderr. */
    void forgetLimits() {
        String options = System.getenv("JDK_JAVA_OPTIONS");
        if (options != null && options.startsWith("-XX:MaxRAM=")) put("JDK_JAVA_OPTIONS", null);
    }

    void set(Map<String, String> wanted) {
        wanted.forEach((name, text) -> {
            // No process can be given such a variable.
            if (name.isEmpty() || name.indexOf('=') >= 0 || name.indexOf(0) >= 0 || text.indexOf(0) >= 0) return;
            oldVariables.put(name, System.getenv(name));
            put(name, text);
            // An execution's variable must not be able to change what the JVM itself lives by, such as java.io.tmpdir or user.dir.
            if (name.indexOf('.') >= 0) return;
            oldProperties.put(name, System.getProperty(name));
            System.setProperty(name, text);
        });
    }

    void restore() {
        oldVariables.forEach(this::put);
        oldVariables.clear();
        oldProperties.forEach((name, text) -> {
            if (text == null) System.clearProperty(name);
            else System.setProperty(name, text);
        });
        oldProperties.clear();
    }

    private void put(String name, String text) {
        try {
            Object key = variable.invoke(null, name);
            if (text == null) table.remove(key);
            else table.put(key, value.invoke(null, text));
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException("cannot set " + name, e);
        }
    }
}
