import java.util.Scanner;
public class Start {
    public static void main(String[] args) { System.out.println(Square.of(new Scanner(System.in).nextLong())); }
}
