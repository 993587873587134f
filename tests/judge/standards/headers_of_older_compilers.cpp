/* CPP compiles as gnu++17 with nbrun-compat.h */
#include <iostream>
using namespace std;
int main() {
    int v[3], a, b, most = INT_MAX;
    memset(v, 0, sizeof v);
    cin >> a >> b;
    char line[20];
    sprintf(line, "%d", max(a + b, v[0]));
    if (most > 0 && strlen(line)) cout << line << endl;
    exit(0);
}
