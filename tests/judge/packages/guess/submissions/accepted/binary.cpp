#include <iostream>
#include <string>
int main() {
    int low = 1, high = 1000;
    std::string answer;
    do {
        std::cout << (low + high) / 2 << std::endl;
        std::cin >> answer;
        (answer == "lower" ? high : low) = (low + high) / 2 + (answer == "lower" ? -1 : 1);
    } while (answer != "correct");
}
