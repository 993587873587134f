/* GNU C++11 compiles as gnu++11 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
int f(int a) throw(int) { auto b = a; return b; }
int data[9];
int g() { return data[0]; }
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
