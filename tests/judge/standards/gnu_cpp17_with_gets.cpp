/* GNU C++17 compiles as gnu++17 with nbrun-compat.h */
#include <cstdio>
#include <variant>
std::variant<int, char> v;
char s[99];
int main() { std::gets(s); gets(s + 9); int a, b; sscanf(s, "%d%d", &a, &b); printf("%d", a + b); }
