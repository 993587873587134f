#include <fstream>
#include <iostream>
#include <string>
#include <vector>
int main(int argc, char **argv) {
    std::string mode = argc > 4 ? argv[4] : "";
    if (mode != "loose" && !(mode == "strict" && argc > 5 && std::string(argv[5]) == "order")) return 1;
    std::ifstream in(argv[1]);
    int n, x, a, b;
    in >> n;
    std::vector<int> at(n + 1, -1);
    for (int i = 0; i < n; i++) {
        if (!(std::cin >> x) || x < 1 || x > n || at[x] >= 0) return 43;
        at[x] = i;
    }
    while (mode == "strict" && in >> a >> b)
        if (at[a] > at[b]) return 43;
    return 42;
}
