import java.util.*;
public class Adder {
    public static void main(String[] args) {
        Scanner in = new Scanner(System.in);
        int n = in.nextInt();
        long sum = 0;
        while (n-- > 0) sum += in.nextLong();
        System.out.println(sum);
    }
}
