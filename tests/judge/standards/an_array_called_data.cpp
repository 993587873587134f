/* CPP compiles as gnu++14 */
#include <iostream>
#include <cstdio>
#include <algorithm>
#include <vector>
using namespace std;
int data[9];
int main() { cin >> data[0] >> data[1]; cout << data[0] + data[1]; }
