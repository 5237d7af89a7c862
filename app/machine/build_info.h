// What this executable was made of.
#pragma once

#include <map>
#include <string>

namespace ft {

std::map<std::string, std::string> build_libraries();  // name -> version, "falcon-train" included
std::string build_text();                              // the same for people, a few lines

}  // namespace ft
