#include <iostream>
int main() { long long n, i = 2; std::cin >> n; while (n % i) i++; std::cout << i; }
