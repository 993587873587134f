/* C89 compiles as gnu89 */
#include <stdio.h>
int inline_ = 1;
int main() { int a, b; scanf("%d%d", &a, &b); printf("%d", a + b); return 0; }
