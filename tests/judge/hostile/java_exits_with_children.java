// due: Accepted
public class Main { public static void main(String[] a) throws Exception {
new ProcessBuilder("sleep", "50").start(); java.util.Scanner s = new java.util.Scanner(System.in);
System.out.println(s.nextInt() + s.nextInt()); } }
