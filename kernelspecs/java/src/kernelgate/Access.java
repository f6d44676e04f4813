package kernelgate;

import java.lang.reflect.AccessibleObject;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.Method;

/**
 * The few doors into the JDK that have no public name. All are in java.base, opened by jvm.options, and in place since JDK 11 at
 * least; a missing one fails here, at start, with its name.
 */
final class Access {
    static final Method THREAD_LOCALS = method(InheritableThreadLocal.class, "getMap", Thread.class);
    static final Method THREAD_LOCAL_ENTRY;
    static final Field THREAD_LOCAL_VALUE;

    static {
        Class<?> map = type("java.lang.ThreadLocal$ThreadLocalMap");
        THREAD_LOCAL_ENTRY = method(map, "getEntry", ThreadLocal.class);
        THREAD_LOCAL_VALUE = field(type("java.lang.ThreadLocal$ThreadLocalMap$Entry"), "value");
    }

    private Access() {}

    static Class<?> type(String name) {
        try {
            return Class.forName(name);
        } catch (ClassNotFoundException e) {
            throw new IllegalStateException("this JDK has no " + name, e);
        }
    }

    private static <T extends AccessibleObject> T open(T member) {
        member.setAccessible(true);
        return member;
    }

    static Method method(Class<?> owner, String name, Class<?>... parameters) {
        try {
            return open(owner.getDeclaredMethod(name, parameters));
        } catch (NoSuchMethodException e) {
            throw new IllegalStateException("this JDK has no " + owner.getName() + "." + name, e);
        }
    }

    static Field field(Class<?> owner, String name) {
        try {
            return open(owner.getDeclaredField(name));
        } catch (NoSuchFieldException e) {
            throw new IllegalStateException("this JDK has no " + owner.getName() + "." + name, e);
        }
    }

    static Constructor<?> constructor(Class<?> owner, Class<?>... parameters) {
        try {
            return open(owner.getDeclaredConstructor(parameters));
        } catch (NoSuchMethodException e) {
            throw new IllegalStateException("this JDK has no constructor of " + owner.getName(), e);
        }
    }
}
