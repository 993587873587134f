/* CPP compiles as gnu++14 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
bool g() { bool t = false; t++; return t; }
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
