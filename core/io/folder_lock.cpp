#include "core/io/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "core/base/error.h"

namespace vyx {

FolderLock::FolderLock(const std::filesystem::path& folder) : folder_(folder) {
  fd_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd_ < 0) fail("{}: cannot open the folder ({})", folder.string(), std::strerror(errno));
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int error = errno;
  ::close(fd_);
  if (error == EWOULDBLOCK)
    fail("{}: another process is writing to this folder; wait for it, or choose another folder",
         folder.string());
  fail("{}: cannot lock the folder ({})", folder.string(), std::strerror(error));
}

FolderLock::~FolderLock() {
  ::close(fd_);
}

void FolderLock::remove_leftovers() const {
  std::error_code ignored;  // a file that stays does no harm
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    if (entry.path().filename().string().starts_with(".tmp-"))
      std::filesystem::remove(entry.path(), ignored);
}

}  // namespace vyx
