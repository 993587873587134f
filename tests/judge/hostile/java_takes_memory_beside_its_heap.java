// due: MemoryLimitExceeded RuntimeError
public class Main { public static void main(String[] a) throws Exception {
java.util.List<java.nio.ByteBuffer> l = new java.util.ArrayList<>();
for (int i = 0; i < 100; i++) { java.nio.ByteBuffer b = java.nio.ByteBuffer.allocateDirect(16 << 20);
for (int j = 0; j < b.capacity(); j += 4096) b.put(j, (byte) 1); l.add(b); } } }
