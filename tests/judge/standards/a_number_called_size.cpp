/* CPP compiles as gnu++14 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
int size;
int main() { int a; cin >> a >> size; cout << a + size; }
