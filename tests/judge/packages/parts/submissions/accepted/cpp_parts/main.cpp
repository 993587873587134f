#include <iostream>
#include "given.h"
#include "square.hpp"
int main() { std::cout << square(given()) << "\n"; }
