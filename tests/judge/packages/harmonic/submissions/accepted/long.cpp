#include <cstdio>
int main() { int n; double h = 0; if (std::scanf("%d", &n) != 1) return 1;
    for (int i = n; i; i--) h += 1.0 / i;
    std::printf("%.15e\n", h); }
