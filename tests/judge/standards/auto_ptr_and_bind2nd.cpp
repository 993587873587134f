/* CPP compiles as gnu++17 */
#include <memory>
#include <functional>
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
auto_ptr<int> p(new int(1));
int n(vector<int>& v) { return count_if(v.begin(), v.end(), bind2nd(less<int>(), 3)); }
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
