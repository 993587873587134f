// due: CompileError OutputLimitExceeded MemoryLimitExceeded RuntimeError
int a[1 << 30] = {1};
#include <cstdio>
int main() { int a, b; std::scanf("%d %d", &a, &b); std::printf("%d\n", a + b); }
