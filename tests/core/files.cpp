// Outputs, appended files and questions about paths.
#include "core/append_file.h"
#include "core/check.h"
#include "core/file.h"
#include "core/path.h"
#include "tests/catch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

using namespace ft;
namespace fs = std::filesystem;

namespace {

struct Folder {
  std::string path = (fs::temp_directory_path() / fmt::format("ft-files-{}", ::getpid())).string();
  Folder() {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  std::string file(const std::string& name) const { return path + "/" + name; }
};

mode_t mode_of(const std::string& path) {
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return info.st_mode;
}

// No file of this process may grow beyond `bytes` while this lives, as on a full disk.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : before_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &limit_);
    rlimit low = limit_;
    low.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &low);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &limit_);
    ::signal(SIGXFSZ, before_);
  }

 private:
  rlimit limit_{};
  void (*before_)(int);
};

std::string line(int i) { return fmt::format("line {:04}\n", i); }

}  // namespace

TEST_CASE("only what is not there is absent", "[file]") {
  const Folder folder;
  CHECK_FALSE(exists(folder.file("x")));
  CHECK(names_in(folder.file("x")).empty());
  write_text(folder.file("x"), "");
  CHECK(exists(folder.file("x")));
  CHECK(is_file(folder.file("x")));
  CHECK_FALSE(is_folder(folder.file("x")));
  CHECK_FALSE(exists(folder.file("x/y")));
  fs::create_symlink("x", folder.file("link"));
  CHECK(is_link(folder.file("link")));
  CHECK(is_file(folder.file("link")));
  CHECK(names_in(folder.path) == std::vector<std::string>{"link", "x"});
  CHECK_THROWS_WITH(names_in(folder.file("x")), Catch::Contains("x: cannot be listed"));
  fs::create_symlink("circle", folder.file("circle"));
  CHECK_THROWS_WITH(exists(folder.file("circle")), Catch::Contains("/circle: "));
  CHECK_THROWS_AS(exists(folder.file(std::string(300, 'n'))), PathError);
}

TEST_CASE("an output follows links and keeps permissions", "[file]") {
  const Folder folder;
  fs::create_directories(folder.file("far"));
  write_text(folder.file("far/target"), "old");
  ::chmod(folder.file("far/target").c_str(), 0640);
  fs::create_symlink("far/target", folder.file("one"));
  fs::create_symlink(folder.file("one"), folder.file("two"));
  write_text(folder.file("two"), "new");
  CHECK(is_link(folder.file("one")));
  CHECK(is_link(folder.file("two")));
  CHECK(read_text(folder.file("far/target")) == "new");
  CHECK((mode_of(folder.file("far/target")) & 07777) == 0640);
  CHECK(names_in(folder.file("far")) == std::vector<std::string>{"target"});
  fs::create_symlink("far/fresh", folder.file("dangling"));
  write_text(folder.file("dangling"), "made");
  CHECK(is_link(folder.file("dangling")));
  CHECK(read_text(folder.file("far/fresh")) == "made");
  fs::create_symlink("circle", folder.file("circle"));
  CHECK_THROWS_WITH(write_text(folder.file("circle"), ""), Catch::Contains("/circle: "));
  CHECK_THROWS_WITH(write_text(folder.file("far"), ""), Catch::Contains("is a folder"));
}

TEST_CASE("an output that is no file is written through", "[file]") {
  const Folder folder;
  write_text("/dev/null", "text");
  CHECK(S_ISCHR(mode_of("/dev/null")));
  CHECK_THROWS_WITH(write_text("/dev/full", "text"), Catch::Contains("/dev/full: writing failed"));
  CHECK(S_ISCHR(mode_of("/dev/full")));
  const std::string fifo = folder.file("fifo");
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  std::string got;
  std::thread reader([&] {
    std::ifstream in(fifo);
    std::getline(in, got);
  });
  write_text(fifo, "through the pipe");
  reader.join();
  CHECK(got == "through the pipe");
  CHECK(S_ISFIFO(mode_of(fifo)));
  CHECK(names_in(folder.path) == std::vector<std::string>{"fifo"});
}

TEST_CASE("an output to a descriptor goes on where it stands", "[file]") {
  const Folder folder;
  const int fd = ::open(folder.file("log").c_str(), O_WRONLY | O_CREAT, 0600);
  REQUIRE(::write(fd, "before ", 7) == 7);
  write_text(fmt::format("/dev/fd/{}", fd), "result ");
  REQUIRE(::write(fd, "after", 5) == 5);
  ::close(fd);
  CHECK(read_text(folder.file("log")) == "before result after");
}

TEST_CASE("what a killed writer left goes with the next one", "[file]") {
  const Folder folder;
  const std::string path = folder.file("out");
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(path);
    file.write("half");
    ::raise(SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  REQUIRE(names_in(folder.path).size() == 1);
  std::ofstream(folder.file("other.tmp-2147483000")) << "of another output";
  std::ofstream(fmt::format("{}.tmp-{}", path, ::getppid())) << "of one that lives";
  std::ofstream(path + ".tmp-mine") << "a user's";
  write_text(path, "whole");
  const auto left = names_in(folder.path);
  CHECK(left.size() == 4);
  CHECK_FALSE(exists(fmt::format("{}.tmp-{}", path, child)));
  remove_stale_temporaries(folder.path);
  CHECK_FALSE(exists(folder.file("other.tmp-2147483000")));
  CHECK(names_in(folder.path).size() == 3);
}

TEST_CASE("a full disk tears no record and loses none that fits", "[file]") {
  const Folder folder;
  std::vector<std::string> heard;
  std::string all;
  {
    AppendFile file(folder.file("log"), [&](const std::string& text) { heard.push_back(text); });
    for (int i = 0; i < 100; ++i) {
      file.add(line(i));
      all += line(i);
    }
    {
      const FullDisk full(1004);  // in the middle of the record after the next
      for (int i = 100; i < 200; ++i) {
        file.add(line(i));
        all += line(i);
        CHECK(fs::file_size(folder.file("log")) % 10 == 0);
      }
      file.sync();
    }
    CHECK(heard.size() == 1);
    CHECK_THAT(heard[0], Catch::Contains("cannot be written (File too large)"));
    CHECK(fs::file_size(folder.file("log")) == 1000);
    file.add(line(200));
    all += line(200);
    REQUIRE(heard.size() == 2);
    CHECK_THAT(heard[1], Catch::Contains("nothing of it is missing"));
    file.sync();
  }
  CHECK(read_text(folder.file("log")) == all);
  CHECK_THROWS_WITH(AppendFile(folder.file("no/log"), nullptr), Catch::Contains("no/log: cannot"));
}

TEST_CASE("records that no memory should hold are lost by number", "[file]") {
  const Folder folder;
  std::vector<std::string> heard;
  AppendFile file(folder.file("log"), [&](const std::string& text) { heard.push_back(text); });
  const std::string large(1 << 20, 'x');
  {
    const FullDisk full(1000);
    for (int i = 0; i < 20; ++i) file.add(large);  // 16 of them may wait
  }
  file.add("end");
  REQUIRE(heard.size() == 2);
  CHECK_THAT(heard[1],
             Catch::Contains("4 records are missing") || Catch::Contains("5 records are"));
  CHECK(fs::file_size(folder.file("log")) % large.size() <= 3);
}
