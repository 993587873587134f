/* CPP compiles as gnu++17 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
int f() { register int a = 1; return a; }
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
