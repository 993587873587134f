/* CPP compiles as gnu++11 */
#include <cstdio>
char s[99];
int main() { gets(s); int a, b; sscanf(s, "%d%d", &a, &b); printf("%d", a + b); }
