/* CPP compiles as gnu++14 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
int f(int a) throw(int) { return a; }
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
