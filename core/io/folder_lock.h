// One writer a folder: a lock that ends with the process, however it ends.
#pragma once
#include <filesystem>

namespace vyx {

class FolderLock {
 public:
  /// Throws Error when another process (or this one, elsewhere) holds the folder, or when it is
  /// none.
  explicit FolderLock(const std::filesystem::path& folder);
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock();

  /// Removes what AtomicFiles of killed processes left in the folder: nobody else writes there now.
  void remove_leftovers() const;

 private:
  std::filesystem::path folder_;
  int fd_ = -1;
};

}  // namespace vyx
