/* C++20 (GCC 13-64) compiles as gnu++20 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
consteval int one() { return 1; }
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
