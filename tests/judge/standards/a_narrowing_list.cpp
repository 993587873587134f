/* CPP compiles as gnu++17 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
int big = 300;
char c[] = {big};
int main() { int a, b; cin >> a >> b; cout << a + b << endl; }
