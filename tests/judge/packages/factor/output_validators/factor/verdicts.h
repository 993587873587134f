#include <cstdlib>
#include <fstream>
#include <string>
inline void end(int code, const std::string &folder, const std::string &words) {
    std::ofstream(folder + "/judgemessage.txt") << words;
    std::exit(code);
}
inline void accept(const std::string &folder, const std::string &words) { end(42, folder, words); }
inline void reject(const std::string &folder, const std::string &words) { end(43, folder, words); }
