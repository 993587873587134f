#include <iostream>
long long sum(long long n) { volatile char pad[96]; pad[0] = 0; return n ? n + sum(n - 1) + pad[0] : 0; }
int main() { long long n; std::cin >> n; std::cout << sum(n) << "\n"; }
