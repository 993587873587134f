/* CPP compiles as gnu++17 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
void f(vector<int>& v) { random_shuffle(v.begin(), v.end()); }
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
