package kernelgate;

import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.dflib.jjava.shaded.org.zeromq.SocketType;
import org.dflib.jjava.shaded.org.zeromq.ZMQ;

/** Used by install.sh: the kernel and a client of it in one JVM, so that the classes of a usual session get into the class archive. */
final class Rehearsal {
    private static final String[] CELLS = {
        "int x = 6; x * 7",
        "import java.util.stream.*;\nrecord P(String name, int n) {}\nList<P> ps = List.of(new P(\"a\", 1), new P(\"b\", 2));\nps",
        "int f(int n) { return n < 2 ? n : f(n - 1) + f(n - 2); }\nfor (int i = 0; i < 3; i++) System.out.println(f(i));",
        "class A { int v; A(int v) { this.v = v; } int twice() { return 2 * v; } }\nvar a = new A(4);\na.twice()",
        "Map<String, Integer> m = new TreeMap<>();\nm.put(\"k\", 1);\nm.merge(\"k\", 2, Integer::sum);\nSystem.out.printf(\"%d %s %.2f%n\", 1, m, 2.5);\n"
            + "String s = ps.stream().map(p -> p.name() + \"=\" + p.n()).collect(Collectors.joining(\", \"));\ns",
        "display(html(\"<b>x</b>\")); System.err.println(\"e\"); new int[][] {{1, 2}, {3, 4}}",
        "new ProcessBuilder(\"true\").inheritIO().start().waitFor()",
        "String broken = 5;", "int y = 1 / 0;", "if (", "",
    };

    private Rehearsal() {}

    public static void main(String[] arguments) throws Exception {
        String[] names = {"shell_port", "control_port", "hb_port", "stdin_port", "iopub_port"};
        Map<String, Object> connection = Json.map("transport", "tcp", "ip", "127.0.0.1", "key", "rehearsal", "signature_scheme", "hmac-sha256");
        ServerSocket[] held = new ServerSocket[names.length];
        for (int i = 0; i < names.length; i++) {
            held[i] = new ServerSocket(0);
            connection.put(names[i], held[i].getLocalPort());
        }
        for (ServerSocket each : held) each.close();
        Path file = Files.createTempFile("rehearsal", ".json");
        Files.write(file, Json.bytes(connection));
        Thread kernel = new Thread(() -> {
            try {
                Main.main(new String[] {file.toString()});
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
        kernel.setDaemon(true);
        kernel.start();

        Wire wire = new Wire("rehearsal", "hmac-sha256");
        ZMQ.Context context = ZMQ.context(1);
        ZMQ.Socket output = context.socket(SocketType.SUB);
        output.subscribe(new byte[0]);
        output.connect("tcp://127.0.0.1:" + connection.get("iopub_port"));
        ZMQ.Socket shell = context.socket(SocketType.DEALER);
        shell.connect("tcp://127.0.0.1:" + connection.get("shell_port"));
        ask(wire, shell, "kernel_info_request", Map.of());
        for (String cell : CELLS)
            ask(wire, shell, "execute_request", Json.map("code", cell, "silent", false, "store_history", true, "allow_stdin", false));
        ask(wire, shell, "complete_request", Json.map("code", "\"x\".le", "cursor_pos", 6));
        ask(wire, shell, "inspect_request", Json.map("code", "Math.max(", "cursor_pos", 9));
        ask(wire, shell, "is_complete_request", Json.map("code", "for (;;) {"));
        Files.delete(file);
        System.exit(0);
    }

    private static void ask(Wire wire, ZMQ.Socket shell, String type, Object content) {
        Wire.send(shell, wire.encode(new byte[0][], type, "{}", Map.of(), content));
        shell.setReceiveTimeOut(60_000);
        if (wire.receive(shell, 0) == null) throw new IllegalStateException("no answer to " + type);
    }
}
