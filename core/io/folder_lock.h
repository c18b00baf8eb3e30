// One writer per folder: a lock that ends with the process, however the process ends.
#pragma once
#include <filesystem>

namespace vyx {

class FolderLock {
 public:
  /// Throws Error when another process, or another lock of this one, holds the folder, and when
  /// `folder` is not a folder.
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
