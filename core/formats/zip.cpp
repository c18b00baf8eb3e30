#include "core/formats/zip.h"

#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utf8.h"

namespace vyx {
namespace {

static_assert(std::endian::native == std::endian::little,
              "zip files are little-endian and are read in place");

constexpr uint64_t kMaxEntries = 1u << 16;
// What all entries inflate to: one of the two must hold, for each of them and for all together.
constexpr uint64_t kMaxInflated = 64u << 20, kMaxRatio = 100;
constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50,
                   kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56,
                   kLocator64Bytes = 20;
constexpr uint32_t kIn64 = 0xFFFFFFFF;  // another field holds the size or the offset, in 64 bits
constexpr uint16_t kEntriesIn64 = 0xFFFF;
constexpr uint16_t kEncrypted = 1 << 0, kSizesFollow = 1 << 3, kUtf8 = 1 << 11;
constexpr uint16_t kStored = 0, kDeflated = 8;
constexpr uint16_t kExtra64 = 1;
// Signature, CRC and two sizes behind the data of an entry whose sizes follow.
constexpr uint64_t kMaxDescriptor = 24;
constexpr uint64_t kAlignment = 64;
constexpr uint16_t kExtraPadding = 0x4246;  // "FB", as PyTorch pads

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string_view source)
      : bytes_(bytes), source_(source) {}

  std::span<const std::byte> take(uint64_t at, uint64_t size, std::string_view what) const {
    if (at > bytes_.size() || size > bytes_.size() - at)
      fail(
          "{}: at byte {}: {}: found the end of the file, expected {} bytes; is the file complete?",
          source_, at, what, size);
    return bytes_.subspan(at, size);
  }

  template <class T>
  static T get(std::span<const std::byte> record, uint64_t offset) {
    T value;
    std::memcpy(&value, record.data() + offset, sizeof(T));
    return value;
  }

  std::span<const std::byte> record(uint64_t at, uint64_t size, uint32_t signature,
                                    std::string_view what) const {
    const auto bytes = take(at, size, what);
    if (get<uint32_t>(bytes, 0) != signature)
      fail("{}: at byte {}: found no {}; is this a complete zip file?", source_, at, what);
    return bytes;
  }

  // Offsets before the file wrap around and lie behind it.
  bool has(uint64_t at, uint32_t signature) const {
    return at < bytes_.size() && bytes_.size() - at >= sizeof(signature) &&
           get<uint32_t>(bytes_.subspan(at), 0) == signature;
  }

  uint64_t size() const { return bytes_.size(); }
  std::string_view source() const { return source_; }

 private:
  std::span<const std::byte> bytes_;
  std::string_view source_;
};

struct Directory {
  uint64_t offset, size, entries, end;  // end: where the records behind it begin
};

// The record of the directory is the last in the file; a second one of 64-bit numbers stands in
// front of it where they are needed.
Directory find_directory(const Reader& reader) {
  if (reader.size() < kEndBytes)
    fail("{}: found {} bytes, expected a zip file", reader.source(), reader.size());
  const uint64_t at = reader.size() - kEndBytes;
  const auto end = reader.record(at, kEndBytes, kEnd, "end record of a zip file without a comment");
  const auto disks = Reader::get<uint32_t>(end, 4);
  const auto here = Reader::get<uint16_t>(end, 8), total = Reader::get<uint16_t>(end, 10),
             comment = Reader::get<uint16_t>(end, 20);
  if (disks != 0 || here != total || comment != 0)
    fail("{}: at byte {}: found an archive of several disks or with a comment, expected neither",
         reader.source(), at);
  const Directory directory32 = {Reader::get<uint32_t>(end, 16), Reader::get<uint32_t>(end, 12),
                                 total, at};
  Directory directory = directory32;
  const bool needed = directory.offset == kIn64 || directory.size == kIn64 || total == kEntriesIn64;
  if (needed || reader.has(at - kLocator64Bytes, kLocator64)) {  // PyTorch writes it always
    const auto locator = reader.record(at - kLocator64Bytes, kLocator64Bytes, kLocator64,
                                       "locator of the 64-bit end record");
    const auto record = Reader::get<uint64_t>(locator, 8);
    const auto end64 = reader.record(record, kEnd64Bytes, kEnd64, "64-bit end record");
    directory = {Reader::get<uint64_t>(end64, 48), Reader::get<uint64_t>(end64, 40),
                 Reader::get<uint64_t>(end64, 32), record};
    const bool agrees = (directory32.offset == kIn64 || directory32.offset == directory.offset) &&
                        (directory32.size == kIn64 || directory32.size == directory.size) &&
                        (total == kEntriesIn64 || total == directory.entries);
    if (!agrees || record != at - kLocator64Bytes - kEnd64Bytes)
      fail(
          "{}: at byte {}: found a 64-bit end record that does not match the other, expected the "
          "same right before it",
          reader.source(), record);
  }
  if (directory.entries > kMaxEntries)
    fail("{}: found {} entries, expected at most {}", reader.source(), directory.entries,
         kMaxEntries);
  if (directory.offset > directory.end || directory.size != directory.end - directory.offset)
    fail("{}: found a directory of {} bytes from byte {}, expected it to end at byte {}",
         reader.source(), directory.size, directory.offset, directory.end);
  return directory;
}

// Fills those of `values` that a 32-bit field could not hold, in their order, from the extra field
// of 64-bit numbers.
void read_extra64(std::span<const std::byte> extra, std::initializer_list<uint64_t*> values,
                  std::string_view where) {
  while (extra.size() >= 4) {
    const auto id = Reader::get<uint16_t>(extra, 0), size = Reader::get<uint16_t>(extra, 2);
    if (size > extra.size() - 4)
      fail("{}: found an extra field that ends beyond the record, expected a whole one", where);
    if (id == kExtra64) {
      uint64_t at = 4;
      for (uint64_t* value : values) {
        if (*value != kIn64) continue;
        if (at + 8 > 4u + size) break;
        *value = Reader::get<uint64_t>(extra, at);
        at += 8;
      }
      return;
    }
    extra = extra.subspan(4u + size);
  }
}

void check_name(std::string_view name, std::string_view source) {
  bool good = !name.empty() && is_utf8(name) && name.find('\0') == std::string_view::npos &&
              name.find('\\') == std::string_view::npos;
  for (const auto& part : std::filesystem::path(name)) good = good && part != ".." && part != "/";
  if (!good)
    fail("{}: found an entry named {}, expected a relative path that stays in its folder", source,
         quote(name));
}

struct Placed {
  uint64_t begin, end;  // of the entry's own header and its data
  bool sizes_follow;
  size_t index;
};

// An entry of the directory, held against the header in front of its data.
ZipEntry read_entry(const Reader& reader, uint64_t& at, std::vector<Placed>& placed) {
  const auto central = reader.record(at, kCentralBytes, kCentral, "entry of the directory");
  const auto name_size = Reader::get<uint16_t>(central, 28),
             extra_size = Reader::get<uint16_t>(central, 30);
  ZipEntry entry;
  entry.name = text_of(reader.take(at + kCentralBytes, name_size, "name"));
  check_name(entry.name, reader.source());
  const std::string where = fmt::format("{}: entry {}", reader.source(), quote(entry.name));
  const auto flags = Reader::get<uint16_t>(central, 8), method = Reader::get<uint16_t>(central, 10);
  if ((flags & ~(kSizesFollow | kUtf8 | 0b110)) != 0)  // 0b110: how hard deflate tried
    fail("{}: found the flags {:#x}{}, expected an entry without", where, flags,
         (flags & kEncrypted) != 0 ? " (encrypted)" : "");
  if (method != kStored && method != kDeflated)
    fail("{}: found compression method {}, expected stored or deflate", where, method);
  entry.deflated = method == kDeflated;
  entry.crc = Reader::get<uint32_t>(central, 16);
  uint64_t packed = Reader::get<uint32_t>(central, 20), offset = Reader::get<uint32_t>(central, 42);
  entry.size = Reader::get<uint32_t>(central, 24);
  read_extra64(reader.take(at + kCentralBytes + name_size, extra_size, "extra field"),
               {&entry.size, &packed, &offset}, where);
  if (!entry.deflated && packed != entry.size)
    fail("{}: found {} bytes of a stored entry of {}, expected as many", where, packed, entry.size);
  at += kCentralBytes + name_size + extra_size + Reader::get<uint16_t>(central, 32);

  const auto local = reader.record(offset, kLocalBytes, kLocal, "header of an entry");
  const auto local_name_size = Reader::get<uint16_t>(local, 26),
             local_extra_size = Reader::get<uint16_t>(local, 28);
  const auto local_name = text_of(reader.take(offset + kLocalBytes, local_name_size, "name"));
  if (local_name != entry.name)
    fail("{}: found the name {} at its data, expected the same", where, quote(local_name));
  if (Reader::get<uint16_t>(local, 6) != flags || Reader::get<uint16_t>(local, 8) != method)
    fail("{}: found other flags or another method at its data, expected the same", where);
  uint64_t local_size = Reader::get<uint32_t>(local, 22),
           local_packed = Reader::get<uint32_t>(local, 18);
  const auto local_crc = Reader::get<uint32_t>(local, 14);
  read_extra64(reader.take(offset + kLocalBytes + local_name_size, local_extra_size, "extra field"),
               {&local_size, &local_packed}, where);
  const bool sizes_follow = (flags & kSizesFollow) != 0;
  const bool left_out = sizes_follow && local_size == 0 && local_packed == 0 && local_crc == 0;
  if (!left_out && (local_size != entry.size || local_packed != packed || local_crc != entry.crc))
    fail(
        "{}: found other sizes or another CRC at its data, expected the same; is the file damaged?",
        where);

  const uint64_t data = offset + kLocalBytes + local_name_size + local_extra_size;
  entry.packed = reader.take(data, packed, "content");
  placed.push_back({offset, data + packed, sizes_follow, placed.size()});
  return entry;
}

void check_inflated(uint64_t packed, uint64_t inflated, std::string_view where) {
  if (inflated > kMaxInflated && inflated / kMaxRatio > packed)
    fail("{}: found {} bytes that inflate to {}, expected at most {} times as many", where, packed,
         inflated, kMaxRatio);
}

std::vector<std::byte> inflate_content(const ZipEntry& entry, std::string_view where) {
  std::vector<std::byte> out(entry.size);
  z_stream stream = {};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) fail("{}: zlib cannot start", where);
  // zlib counts in 32 bits.
  constexpr uint64_t kPiece = 1u << 30;
  uint64_t taken = 0, made = 0;
  int result = Z_OK;
  while (result == Z_OK) {
    const auto in = static_cast<uInt>(std::min(kPiece, entry.packed.size() - taken)),
               room = static_cast<uInt>(std::min(kPiece, out.size() - made));
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(entry.packed.data() + taken));
    stream.avail_in = in;
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + made);
    stream.avail_out = room;
    result = inflate(&stream, Z_NO_FLUSH);  // Z_BUF_ERROR when nothing moves
    taken += in - stream.avail_in;
    made += room - stream.avail_out;
  }
  inflateEnd(&stream);
  if (result != Z_STREAM_END || made != out.size() || taken != entry.packed.size())
    fail("{}: found damaged deflate data, expected {} bytes in {}", where, entry.size,
         entry.packed.size());
  return out;
}

uint32_t crc_of(std::span<const std::byte> bytes) {
  return static_cast<uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

}  // namespace

ZipArchive ZipArchive::parse(std::span<const std::byte> bytes, std::string source) {
  ZipArchive archive;
  archive.source_ = std::move(source);
  const Reader reader(bytes, archive.source_);
  const Directory directory = find_directory(reader);
  std::vector<Placed> placed;
  uint64_t at = directory.offset, inflated = 0;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    if (at >= directory.end)
      fail("{}: found {} entries in the directory, expected {}", archive.source_, i,
           directory.entries);
    archive.entries_.push_back(read_entry(reader, at, placed));
    if (const ZipEntry& entry = archive.entries_.back(); entry.deflated) {
      check_inflated(entry.packed.size(), entry.size,
                     fmt::format("{}: entry {}", archive.source_, quote(entry.name)));
      inflated += entry.size;
    }
    if (!archive.index_.try_emplace(archive.entries_.back().name, i).second)
      fail("{}: found the entry {} again, expected each name once", archive.source_,
           quote(archive.entries_.back().name));
  }
  check_inflated(bytes.size(), inflated, archive.source_);
  if (at != directory.end)
    fail("{}: at byte {}: found more after the last entry, expected the end of the directory",
         archive.source_, at);

  std::sort(placed.begin(), placed.end(),
            [](const Placed& a, const Placed& b) { return a.begin < b.begin; });
  uint64_t expected = 0, slack = 0;
  const auto check = [&](uint64_t begin, std::string_view what) {
    if (begin < expected || begin - expected > slack)
      fail("{}: found {} at byte {}, expected it at byte {}, where the entry before it ends",
           archive.source_, what, begin, expected);
  };
  for (const Placed& each : placed) {
    check(each.begin, quote(archive.entries_[each.index].name));
    expected = each.end;
    slack = each.sizes_follow ? kMaxDescriptor : 0;
  }
  check(directory.offset, "the directory");
  return archive;
}

const ZipEntry* ZipArchive::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

ZipContent ZipArchive::read(const ZipEntry& entry) const {
  const std::string where = fmt::format("{}: entry {}", source_, quote(entry.name));
  ZipContent content;
  if (entry.deflated) content.inflated = inflate_content(entry, where);
  content.bytes = entry.deflated ? content.inflated : entry.packed;
  if (crc_of(content.bytes) != entry.crc)
    fail("{}: found a CRC-32 that does not match its content; the file is damaged", where);
  return content;
}

void ZipWriter::add(const std::string& name, std::string_view content) {
  add(name, std::as_bytes(std::span(content)));
}

void ZipWriter::add(const std::string& name, std::span<const std::byte> content) {
  check_name(name, path_);
  const uint64_t offset = file_.written();
  const bool wide = content.size() >= kIn64, far = offset >= kIn64;
  const uint32_t size = wide ? kIn64 : static_cast<uint32_t>(content.size()), crc = crc_of(content);
  const auto common =
      [&](std::string& out,
          uint16_t extra_size) {  // what both headers begin with, from the version on
        put<uint16_t>(out, wide || far ? 45 : 20);
        put<uint16_t>(out, kUtf8);
        put<uint16_t>(out, kStored);
        put<uint32_t>(out, 0x00210000);  // 1 January 1980: the same bytes whenever they are written
        put<uint32_t>(out, crc);
        put<uint32_t>(out, size);
        put<uint32_t>(out, size);
        put<uint16_t>(out, static_cast<uint16_t>(name.size()));
        put<uint16_t>(out, extra_size);
      };

  std::string extra;
  if (wide) {
    put<uint16_t>(extra, kExtra64);
    put<uint16_t>(extra, 16);
    put<uint64_t>(extra, content.size());
    put<uint64_t>(extra, content.size());
  }
  const uint64_t unpadded = offset + kLocalBytes + name.size() + extra.size() + 4;
  const auto padding = static_cast<uint16_t>((kAlignment - unpadded % kAlignment) % kAlignment);
  put<uint16_t>(extra, kExtraPadding);
  put<uint16_t>(extra, padding);
  extra.append(padding, '\0');

  std::string local;
  put<uint32_t>(local, kLocal);
  common(local, static_cast<uint16_t>(extra.size()));
  file_.write(local + name + extra);
  file_.write(content);

  std::string central_extra;
  if (wide || far) {
    put<uint16_t>(central_extra, kExtra64);
    put<uint16_t>(central_extra, static_cast<uint16_t>((wide ? 16 : 0) + (far ? 8 : 0)));
    if (wide) put<uint64_t>(central_extra, content.size());
    if (wide) put<uint64_t>(central_extra, content.size());
    if (far) put<uint64_t>(central_extra, offset);
  }
  put<uint32_t>(directory_, kCentral);
  put<uint16_t>(directory_, 45);
  common(directory_, static_cast<uint16_t>(central_extra.size()));
  put<uint16_t>(directory_, 0);  // comment
  put<uint16_t>(directory_, 0);  // disk
  put<uint16_t>(directory_, 0);  // internal attributes
  put<uint32_t>(directory_, 0);  // external attributes
  put<uint32_t>(directory_, far ? kIn64 : static_cast<uint32_t>(offset));
  directory_ += name + central_extra;
  ++count_;
}

void ZipWriter::commit() {
  const uint64_t offset = file_.written(), size = directory_.size();
  if (count_ >= kEntriesIn64)
    fail("{}: found {} entries to write, expected fewer than 65535", path_, count_);
  const bool far = offset >= kIn64;
  std::string end;
  if (far) {
    put<uint32_t>(end, kEnd64);
    put<uint64_t>(end, kEnd64Bytes - 12);
    put<uint16_t>(end, 45);
    put<uint16_t>(end, 45);
    put<uint64_t>(end, 0);  // disks
    put<uint64_t>(end, count_);
    put<uint64_t>(end, count_);
    put<uint64_t>(end, size);
    put<uint64_t>(end, offset);
    put<uint32_t>(end, kLocator64);
    put<uint32_t>(end, 0);
    put<uint64_t>(end, offset + size);
    put<uint32_t>(end, 1);
  }
  put<uint32_t>(end, kEnd);
  put<uint32_t>(end, 0);  // disks
  put<uint16_t>(end, static_cast<uint16_t>(count_));
  put<uint16_t>(end, static_cast<uint16_t>(count_));
  put<uint32_t>(end, static_cast<uint32_t>(size));
  put<uint32_t>(end, far ? kIn64 : static_cast<uint32_t>(offset));
  put<uint16_t>(end, 0);  // comment
  file_.write(directory_ + end);
  file_.commit();
}

}  // namespace vyx
