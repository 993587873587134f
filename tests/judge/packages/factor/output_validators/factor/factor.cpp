#include "verdicts.h"
#include <iostream>
int main(int argc, char **argv) {
    if (argc < 5 || std::string(argv[4]) != "proper") return 1;
    long long n, judges, x;
    std::string more;
    if (!(std::ifstream(argv[1]) >> n) || !(std::ifstream(argv[2]) >> judges) || n % judges) return 1;
    if (!(std::cin >> x)) reject(argv[3], "no number");
    if (std::cin >> more) reject(argv[3], "more than a number");
    if (x < 2 || x >= n || n % x) reject(argv[3], std::to_string(x) + " is no proper factor");
    accept(argv[3], "a proper factor");
}
