#include "given.h"
#include <iostream>
long long given() { long long x; std::cin >> x; return x; }
