public class Square { static long of(long x) { return x * x; } }
