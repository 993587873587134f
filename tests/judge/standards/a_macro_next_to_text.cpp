/* CPP compiles as gnu++17 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
#define D "d"
int main() { int a, b; scanf("%"D"%"D, &a, &b); cout << a + b; }
