package kernelgate;

import java.util.HashSet;
import java.util.Set;
import org.dflib.jjava.shaded.org.eclipse.sisu.space.asm.ClassReader;
import org.dflib.jjava.shaded.org.eclipse.sisu.space.asm.ClassVisitor;
import org.dflib.jjava.shaded.org.eclipse.sisu.space.asm.ClassWriter;
import org.dflib.jjava.shaded.org.eclipse.sisu.space.asm.Label;
import org.dflib.jjava.shaded.org.eclipse.sisu.space.asm.MethodVisitor;
import org.dflib.jjava.shaded.org.eclipse.sisu.space.asm.Opcodes;

/**
 * Rewrites the classes JShell compiles: a call of Hooks.poll at the start of every method and before every backward jump, so that any
 * loop and any recursion of the user's can be stopped at a well defined place (Thread.stop stops anywhere, and is gone since JDK 20);
 * and process starts through Hooks, for the environment of one execution.
 */
final class Instrument extends ClassVisitor {
    private static final String HOOKS = "kernelgate/Hooks";
    private static final int MAJOR_VERSION_OFFSET = 7;
    /** Newest class file version that this ASM reads. Later ones have added nothing it would trip over in plain code. */
    private static final int NEWEST_READABLE = Opcodes.V17;

    private Instrument(ClassWriter writer) { super(Opcodes.ASM9, writer); }

    /** The class rewritten, or as it was where it cannot be: code that only Thread.stop can end is better than none. */
    static byte[] rewrite(byte[] original) {
        try {
            byte[] readable = original;
            int version = original[MAJOR_VERSION_OFFSET] & 0xff;
            if (version > NEWEST_READABLE) {
                readable = original.clone();
                readable[MAJOR_VERSION_OFFSET] = (byte) NEWEST_READABLE;
            }
            ClassReader reader = new ClassReader(readable);
            ClassWriter writer = new ClassWriter(reader, 0);
            reader.accept(new Instrument(writer), 0);
            byte[] result = writer.toByteArray();
            result[MAJOR_VERSION_OFFSET] = (byte) version;
            return result;
        } catch (RuntimeException e) {
            return original;
        }
    }

    @Override
    public MethodVisitor visitMethod(int access, String name, String descriptor, String signature, String[] exceptions) {
        MethodVisitor next = super.visitMethod(access, name, descriptor, signature, exceptions);
        return next == null ? null : new Body(next, name);
    }

    private static final class Body extends MethodVisitor {
        private final Set<Label> behind = new HashSet<>();
        private final Label start = new Label();
        private final String name;
        private boolean entered;

        Body(MethodVisitor next, String name) {
            super(Opcodes.ASM9, next);
            this.name = name;
        }

        private void poll() { super.visitMethodInsn(Opcodes.INVOKESTATIC, HOOKS, "poll", "()V", false); }

        @Override
        public void visitCode() {
            super.visitCode();
            // A class whose initialiser is stopped can never be used again.
            if (name.equals("<clinit>")) return;
            super.visitLabel(start);
            entered = true;
            poll();
        }

        /** Gives the call at the start the method's first line, for the traceback. */
        @Override
        public void visitLineNumber(int line, Label where) {
            if (entered) super.visitLineNumber(line, start);
            entered = false;
            super.visitLineNumber(line, where);
        }

        @Override
        public void visitLabel(Label label) {
            behind.add(label);
            super.visitLabel(label);
        }

        @Override
        public void visitJumpInsn(int opcode, Label target) {
            if (behind.contains(target)) poll();
            super.visitJumpInsn(opcode, target);
        }

        @Override
        public void visitMethodInsn(int opcode, String owner, String method, String descriptor, boolean isInterface) {
            if (owner.equals("java/lang/ProcessBuilder") && method.equals("start")) {
                super.visitMethodInsn(Opcodes.INVOKESTATIC, HOOKS, method, "(Ljava/lang/ProcessBuilder;)Ljava/lang/Process;", false);
            } else if (owner.equals("java/lang/ProcessBuilder") && method.equals("startPipeline")) {
                super.visitMethodInsn(Opcodes.INVOKESTATIC, HOOKS, method, descriptor, false);
            } else if (owner.equals("java/lang/Runtime") && method.equals("exec")) {
                super.visitMethodInsn(Opcodes.INVOKESTATIC, HOOKS, method, "(Ljava/lang/Runtime;" + descriptor.substring(1), false);
            } else super.visitMethodInsn(opcode, owner, method, descriptor, isInterface);
        }
    }
}
