/* GNU C++17 compiles as gnu++17 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
inline int one = 1;
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
