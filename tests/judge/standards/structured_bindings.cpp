/* CPP compiles as gnu++17 */
#include <map>
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
int f(map<int, int> m) { for (auto [k, v] : m) return k + v; return 0; }
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
