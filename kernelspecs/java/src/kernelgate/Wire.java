package kernelgate;

import java.nio.charset.StandardCharsets;
import java.security.DigestException;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.dflib.jjava.shaded.org.zeromq.ZMQ;

/** Jupyter's messages as frames: parsing, signing, numbering. Holds no socket. */
final class Wire {
    private static final byte[] DELIMITER = "<IDS|MSG>".getBytes(StandardCharsets.US_ASCII);
    private static final int BLOCK_BYTES = 64;

    /** A message received. The header is kept as it came, because replies must repeat it as their parent. */
    record Message(byte[][] identities, String rawHeader, Map<String, Object> header, Map<String, Object> metadata, Map<String, Object> content) {
        String type() { return String.valueOf(header.get("msg_type")); }
    }

    private final byte[] innerPad;
    private final byte[] outerPad;
    private final boolean signed;
    private final String session = Long.toHexString(System.nanoTime()) + "-" + ProcessHandle.current().pid();
    private final AtomicLong counter = new AtomicLong();

    Wire(String key, String scheme) {
        signed = !key.isEmpty();
        if (signed && !scheme.equals("hmac-sha256")) throw new IllegalArgumentException("signature scheme " + scheme + " is not supported");
        byte[] secret = key.getBytes(StandardCharsets.UTF_8);
        if (secret.length > BLOCK_BYTES) secret = sha256().digest(secret);
        innerPad = new byte[BLOCK_BYTES];
        outerPad = new byte[BLOCK_BYTES];
        Arrays.fill(innerPad, (byte) 0x36);
        Arrays.fill(outerPad, (byte) 0x5c);
        for (int i = 0; i < secret.length; i++) {
            innerPad[i] ^= secret[i];
            outerPad[i] ^= secret[i];
        }
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    /** HMAC (RFC 2104) by hand: javax.crypto.Mac would load and verify every security provider, 60 ms of start-up. */
    private byte[] signature(byte[]... parts) {
        if (!signed) return new byte[0];
        MessageDigest digest = sha256();
        digest.update(innerPad);
        for (byte[] part : parts) digest.update(part);
        byte[] inner = digest.digest();
        digest.update(outerPad);
        digest.update(inner);
        byte[] mac = new byte[32];
        try {
            digest.digest(mac, 0, mac.length);
        } catch (DigestException e) {
            throw new IllegalStateException(e);
        }
        byte[] hex = new byte[64];
        for (int i = 0; i < 64; i++) hex[i] = (byte) "0123456789abcdef".charAt(i % 2 == 0 ? mac[i / 2] >> 4 & 15 : mac[i / 2] & 15);
        return hex;
    }

    /** The next message, or null where none waits (with DONTWAIT) or what came was not a message signed by our peer. */
    Message receive(ZMQ.Socket socket, int flags) {
        byte[] frame = socket.recv(flags);
        if (frame == null) return null;
        List<byte[]> frames = new ArrayList<>();
        frames.add(frame);
        while (socket.hasReceiveMore()) frames.add(socket.recv(0));
        int at = 0;
        while (at < frames.size() && !Arrays.equals(frames.get(at), DELIMITER)) at++;
        if (frames.size() < at + 6) return null;
        byte[] expected = signature(frames.get(at + 2), frames.get(at + 3), frames.get(at + 4), frames.get(at + 5));
        if (!MessageDigest.isEqual(expected, frames.get(at + 1)) && signed) return null;
        try {
            return new Message(frames.subList(0, at).toArray(byte[][]::new), new String(frames.get(at + 2), StandardCharsets.UTF_8),
                    Json.readMap(frames.get(at + 2)), Json.readMap(frames.get(at + 4)), Json.readMap(frames.get(at + 5)));
        } catch (IllegalArgumentException | ClassCastException e) {
            return null;
        }
    }

    /** The frames of a message to send. */
    byte[][] encode(byte[][] prefix, String type, String parentHeader, Object metadata, Object content) {
        byte[] header = Json.bytes(Json.map("msg_id", session + "_" + counter.incrementAndGet(), "session", session, "username", "kernel",
                "date", Instant.now().toString(), "msg_type", type, "version", "5.4"));
        byte[] parent = parentHeader.getBytes(StandardCharsets.UTF_8);
        byte[] meta = Json.bytes(metadata);
        byte[] body = Json.bytes(content);
        byte[][] frames = Arrays.copyOf(prefix, prefix.length + 6);
        frames[prefix.length] = DELIMITER;
        frames[prefix.length + 1] = signature(header, parent, meta, body);
        frames[prefix.length + 2] = header;
        frames[prefix.length + 3] = parent;
        frames[prefix.length + 4] = meta;
        frames[prefix.length + 5] = body;
        return frames;
    }

    static void send(ZMQ.Socket socket, byte[][] frames) {
        for (int i = 0; i < frames.length - 1; i++) socket.send(frames[i], ZMQ.SNDMORE);
        socket.send(frames[frames.length - 1], 0);
    }

    void reply(ZMQ.Socket socket, Message request, String type, Object content) {
        send(socket, encode(request.identities, type, request.rawHeader, Map.of(), content));
    }
}
