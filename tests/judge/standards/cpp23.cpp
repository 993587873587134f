/* C++23 compiles as gnu++23 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
constexpr int f() { if consteval { return 1; } else { return 2; } }
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
