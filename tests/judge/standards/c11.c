/* GNU C11 compiles as gnu11 */
#include <stdio.h>
_Static_assert(1, "");
int main(void) { int a, b; scanf("%d%d", &a, &b); printf("%d", a + b); }
