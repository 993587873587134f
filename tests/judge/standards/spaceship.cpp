/* CPP compiles as gnu++20 */
#include <compare>
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
struct P { int a; auto operator<=>(const P&) const = default; };
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
