/* CPP compiles as gnu++20 */
#include <concepts>
#include <iterator>
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
template <integral T> T id(T x) { return x; }
auto n(const vector<int>& v) { return std::ssize(v) + id(1); }
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
