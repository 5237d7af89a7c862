// A mapped file that becomes shorter while it is in use, or whose disk or server fails, raises
// SIGBUS at the next read: the process would die without a word.
#pragma once

namespace ft {

// From now on it dies with exit code 1 and a message that names the file, its place and the mend.
// Call once, early; faults that are not in a mapped file stay what they were.
void explain_mapping_faults();

}  // namespace ft
