#include <stdio.h>
int square(int x);
int main(void) { int x; if (scanf("%d", &x) != 1) return 1; printf("%d\n", square(x)); return 0; }
