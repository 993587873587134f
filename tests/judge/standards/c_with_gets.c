/* C compiles as gnu17 */
#include <stdio.h>
char s[99];
main() { int a, b; gets(s); sscanf(s, "%d%d", &a, &b); printf("%d", a + b); return 0; }
