#include <cstdio>
int main() { int n; float h = 0; if (std::scanf("%d", &n) != 1) return 1;
    for (int i = 1; i <= n; i++) h += 1.0f / i;
    std::printf("%.9f\n", h); }
