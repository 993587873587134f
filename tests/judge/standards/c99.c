/* C99 compiles as gnu99 */
#include <stdio.h>
#include <math.h>
int main(void) { for (int i = 0; i < 1; i++) { int a, b; scanf("%d%d", &a, &b); printf("%.0f", sqrt((double)(a + b) * (a + b))); } }
