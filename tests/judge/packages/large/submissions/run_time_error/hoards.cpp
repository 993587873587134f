#include <iostream>
#include <vector>
int main() { long long n; std::cin >> n; std::vector<long long> v(n * 100, 1); std::cout << n * (n + v[5]) / 2 << "\n"; }
