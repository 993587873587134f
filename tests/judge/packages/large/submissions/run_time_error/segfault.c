#include <stdio.h>
int main(void) { long n; if (scanf("%ld", &n) != 1) return 1; if (n > 10) *(volatile int *)0 = 1;
    printf("55\n"); return 0; }
