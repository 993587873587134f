/* C++14 (GCC 6-32) compiles as gnu++14 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
auto twice = [](auto x) { return x + x; };
int data[9];
int g() { return data[0]; }
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
