/* CPP compiles as gnu++20 */
#include <ranges>
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
int main() { int s = 0; vector<int> v(2); for (int& x : v) cin >> x; for (int x : v | views::all) s += x; cout << s; }
