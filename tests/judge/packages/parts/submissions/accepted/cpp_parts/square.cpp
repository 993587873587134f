#include "square.hpp"
long long square(long long x) { return x * x; }
