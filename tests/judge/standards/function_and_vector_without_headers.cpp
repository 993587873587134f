/* CPP compiles as gnu++17 with nbrun-compat.h */
#include <iostream>
int main() {
    std::vector<int64_t> v(2);
    std::function<int64_t(int64_t, int64_t)> add = [](int64_t a, int64_t b) { return a + b; };
    std::cin >> v[0] >> v[1];
    std::cout << add(v[0], v[1]) << std::endl;
}
