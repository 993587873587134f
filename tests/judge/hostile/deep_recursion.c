// due: MemoryLimitExceeded RuntimeError
#include <stdio.h>
volatile long x;
int f(int n) { char pad[1000]; pad[n % 1000] = (char)n; x += pad[0]; return f(n + 1) + pad[n % 999]; }
int main(void) { return f(0); }
