#pragma once
long long square(long long x);
