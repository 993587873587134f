/* CPP compiles as gnu++14 */
#include <cstddef>
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
typedef unsigned char byte;
int main() { int a, b; cin >> a >> b; byte x = a + b; cout << (int)x; }
