#include <iostream>
int main() {
    int n; unsigned sum = 0; long long x;
    std::cin >> n;
    while (n--) { std::cin >> x; sum += (unsigned)x; }
    std::cout << (int)sum << std::endl;
}
