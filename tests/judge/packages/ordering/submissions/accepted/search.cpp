#include <algorithm>
#include <iostream>
#include <vector>
std::vector<std::vector<int>> after;
std::vector<int> seen, out;
void visit(int x) { if (seen[x]++) return; for (int y : after[x]) visit(y); out.push_back(x); }
int main() {
    int n, a, b;
    std::cin >> n;
    after.resize(n + 1); seen.resize(n + 1);
    while (std::cin >> a >> b) after[a].push_back(b);
    for (int i = 1; i <= n; i++) visit(i);
    std::reverse(out.begin(), out.end());
    for (int x : out) std::cout << x << '\n';
}
