/* CPP compiles as gnu++98 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
int nullptr = 0, constexpr = 1;
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
